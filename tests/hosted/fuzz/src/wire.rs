// SPDX-License-Identifier: GPL-2.0

//! What crosses the border to the device, read and written byte by byte.

use std::{
    cell::RefCell,
    fmt::Arguments, //
};

use kernel::prelude::*;

use crate::{
    input::Input,
    uapi::{
        DomainRange,
        Fault,
        MapFlag,
        MapFlags,
        ProbeReply,
        Property,
        RawConfig,
        Request,
        ResvKind,
        Span,
        Status,
        EVENT_SIZE,
        READABLE, //
    }, //
};

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Calls a parser, and notes what it reports: a text if and only if it fails.
fn reported<T>(parse: impl FnOnce(&dyn Fn(Arguments<'_>)) -> Result<T, Error>) -> Result<T, Error> {
    let texts = RefCell::new(Vec::new());
    let result = parse(&|why| texts.borrow_mut().push(why.to_string()));
    assert_eq!(texts.borrow().len(), usize::from(result.is_err()));
    assert!(texts.borrow().iter().all(|text| !text.is_empty()));
    result
}

/// The next property and its size, or [`None`] after the last one. A malformed one fails.
fn next_property(bytes: &[u8]) -> Result<Option<(Property, usize)>, Error> {
    if bytes.len() < 4 {
        let end = bytes.iter().all(|byte| *byte == 0);
        return if end { Ok(None) } else { Err(EINVAL) };
    }
    let type_ = u16::from_le_bytes([bytes[0], bytes[1]]);
    let len = u16::from_le_bytes([bytes[2], bytes[3]]);
    if type_ & 0xfff == 0 {
        return Ok(None);
    }
    let size = 4 + usize::from(len);
    if bytes.len() < size {
        return Err(EINVAL);
    }
    if type_ != 1 {
        return Ok(Some((Property::Unknown { type_ }, size)));
    }
    if len < 20 {
        return Err(EINVAL);
    }
    let (first, last) = (long(bytes, 8), long(bytes, 16));
    if first > last || (first == 0 && last == u64::MAX) {
        return Err(EINVAL);
    }
    let kind = match bytes[4] {
        0 => ResvKind::Reserved,
        1 => ResvKind::Msi,
        other => ResvKind::Unknown(other),
    };
    let span = Span::new(first, last).expect("in order");
    Ok(Some((Property::ResvMem { kind, span }, size)))
}

pub fn property(input: &mut Input<'_>) {
    // The device mostly writes all that there is.
    let exact = input.u8() % 4 != 0;
    let other = input.u32() >> (input.u8() % 32);
    let bytes = input.rest();
    let written = if exact {
        bytes.len()
    } else {
        other as usize % (bytes.len() + 1)
    };

    let mut reply = ProbeReply::new(bytes, written);
    let size = bytes.len().saturating_sub(4);
    let status = match bytes.get(size) {
        Some(byte) if bytes.len() >= 4 => tail_status(*byte, written.saturating_sub(size)),
        _ => Status::Missing,
    };
    assert_eq!(reply.status, status);

    let mut left = if status == Status::Ok {
        &bytes[..size]
    } else {
        &[]
    };
    loop {
        let expected = next_property(left);
        let found = reported(|report| reply.properties.next(report));
        assert_eq!(
            found,
            expected.map(|next| next.map(|(property, _)| property))
        );
        let Ok(Some((_, size))) = expected else {
            break;
        };
        left = &left[size..];
    }
    let after = reported(|report| reply.properties.next(report));
    assert_eq!(after, Ok(None), "after the end");
}

fn status(byte: u8) -> Status {
    [
        Status::Ok,
        Status::IoErr,
        Status::Unsupp,
        Status::DevErr,
        Status::Inval,
        Status::Range,
        Status::NoEnt,
        Status::Fault,
        Status::NoMem,
    ]
    .get(usize::from(byte))
    .copied()
    .unwrap_or(Status::Unknown(byte))
}

/// The status in a tail of which so many bytes are written.
fn tail_status(byte: u8, written: usize) -> Status {
    match status(byte) {
        Status::Ok | Status::Unknown(0xff) if written < 4 => Status::Missing,
        status => status,
    }
}

pub fn event(input: &mut Input<'_>) {
    let bytes = input.rest();
    let parsed = reported(|report| Fault::parse(bytes, report));
    let well_formed = bytes.len() == EVENT_SIZE && bytes[1..4] == [0; 3];
    assert_eq!(parsed.is_ok(), well_formed);
    let Ok(fault) = parsed else {
        return;
    };

    let flags = word(bytes, 4);
    assert_eq!(fault.is_write(), flags & 2 != 0);
    assert_eq!(fault.endpoint(), word(bytes, 8));
    let address = (flags & 0x100 != 0).then(|| long(bytes, 16));
    assert_eq!(fault.address(), address);

    let mut expected = match bytes[0] {
        0 => "unspecified fault".to_string(),
        1 => "domain fault".to_string(),
        2 => "mapping fault".to_string(),
        other => format!("unknown ({other:#x}) fault"),
    };
    if let Some(address) = address {
        expected += &format!(" at {address:#x}");
    }
    if flags & 7 != 0 {
        let set = ["R", "W", "X"].into_iter().enumerate();
        let set = set.filter(|(bit, _)| flags & 1 << bit != 0);
        let access: String = set.map(|(_, letter)| letter).collect();
        expected += &format!(" [{access}]");
    }
    assert_eq!(fault.to_string(), expected);
}

pub fn config(input: &mut Input<'_>) {
    let raw = RawConfig {
        page_size_mask: input.address(),
        input_range: input.option(|input| (input.address(), input.address())),
        domain_range: input.option(|input| (input.u32(), input.u32())),
        probe_size: input.option(|input| input.u32() >> (input.u8() % 32)),
        bypass: input.option(Input::u8),
    };
    let result = reported(|report| raw.validate(report));

    // A page of one byte counts as two.
    let smallest = (0..64)
        .map(|bit| 1u64 << bit)
        .find(|bit| raw.page_size_mask & bit != 0)
        .map(|bytes| bytes.max(2));
    // Where the device has nothing to say, the last page is left out.
    let all = (0, u64::MAX - smallest.unwrap_or(0));
    let (first, last) = raw.input_range.unwrap_or(all);
    let fits = smallest.is_some_and(|bytes| {
        let bytes = u128::from(bytes);
        let first = u128::from(first).div_ceil(bytes);
        first < (u128::from(last) + 1) / bytes
    });
    let domains = raw.domain_range.unwrap_or((0, u32::MAX));
    let good = fits && domains.0 <= domains.1 && raw.probe_size.unwrap_or(0) <= 1 << 16;
    assert_eq!(result.is_ok(), good, "{raw:?}: {result:?}");

    let Ok(config) = result else {
        return;
    };
    assert_eq!(Some(config.granule.as_usize() as u64), smallest);
    // The whole pages of it.
    let bytes = u128::from(config.granule.as_usize() as u64);
    let whole = (
        u128::from(first).div_ceil(bytes) * bytes,
        (u128::from(last) + 1) / bytes * bytes,
    );
    let input = config.input;
    assert_eq!(
        (u128::from(input.first()), u128::from(input.last()) + 1),
        whole
    );
    assert_eq!(Some(config.domains), DomainRange::new(domains.0, domains.1));
    assert_eq!(config.probe_size, raw.probe_size.unwrap_or(0));
    assert_eq!(config.bypass, raw.bypass.map(|bypass| bypass % 2 == 1));
    let count = u64::from(domains.1) - u64::from(domains.0) + 1;
    assert_eq!(config.domains.count(), count);
    let (spare, usable) = config.domains.spare();
    assert!(usable == config.domains || (count == 1 << 32 && usable.count() == count - 1));
    let picked = usable.pick(raw.probe_size.unwrap_or(7));
    for number in [picked, usable.after(picked), usable.after(u32::MAX)] {
        assert!((domains.0..=domains.1).contains(&number) && number != spare);
    }
}

/// What is in the buffer before and after a request.
const REST: u8 = 0xa5;

pub fn request(input: &mut Input<'_>) {
    let (domain, endpoint) = (input.u32(), input.u32());
    let (span, phys) = (input.span(), input.address());
    let bits = input.u8() & 7;
    let mut flags = MapFlags::default();
    for (bit, flag) in [MapFlag::Read, MapFlag::Write, MapFlag::Mmio]
        .into_iter()
        .enumerate()
    {
        if bits & 1 << bit != 0 {
            flags |= flag;
        }
    }
    let bypass = bits & 1 != 0;
    let request = match input.u8() % 5 {
        0 => Request::Attach {
            domain,
            endpoint,
            bypass,
        },
        1 => Request::Detach { domain, endpoint },
        2 => Request::Map {
            domain,
            span,
            phys,
            flags,
        },
        3 => Request::Unmap { domain, span },
        _ => Request::Probe { endpoint },
    };
    let _ = format!("{request}");

    let mut out = [REST; READABLE];
    let size = request.encode(&mut out);
    let low_first = |value: u64| [value as u32, (value >> 32) as u32];
    let [first, last, phys] = [span.first(), span.last(), phys].map(low_first);
    let words = match request {
        Request::Attach { .. } => vec![1, domain, endpoint, u32::from(bypass), 0],
        Request::Detach { .. } => vec![2, domain, endpoint, 0, 0],
        Request::Map { .. } => {
            [&[3, domain], &first[..], &last, &phys, &[u32::from(bits)]].concat()
        }
        Request::Unmap { .. } => [&[4, domain], &first[..], &last, &[0]].concat(),
        Request::Probe { .. } => [&[5, endpoint], &[0; 16][..]].concat(),
    };
    let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(out[..size], expected);
    assert!(
        out[size..].iter().all(|byte| *byte == REST),
        "beyond the end"
    );

    let tail = [input.u8(), input.u8(), input.u8(), input.u8()];
    let written = usize::from(input.u8() % 5);
    let found = Status::from_tail(&tail, written);
    assert_eq!(found, tail_status(tail[0], written));
    assert_eq!(found.is_ok(), found.to_result().is_ok());
}
