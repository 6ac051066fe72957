// SPDX-License-Identifier: GPL-2.0

//! What the scenarios are built from: an engine, a device, and CPUs that compare notes.

use std::sync::{
    atomic::{
        AtomicU64,
        Ordering::SeqCst, //
    },
    Arc,
    Mutex,
    MutexGuard, //
};

use kernel::{
    device,
    model::{
        self,
        random,
        spawn,
        JoinHandle, //
    },
    prelude::*,
    virtio::{
        Behaviour,
        Bus, //
    }, //
};

use super::engine::{
    AccountMemory,
    Engine,
    StageError, //
};
use crate::{
    iommu::{
        Iommu,
        Op,
        PAGE, //
    },
    uapi::{
        MapFlag,
        Request,
        Span, //
    }, //
};

pub(super) fn span(page: u64) -> Span {
    Span::new(page * PAGE, page * PAGE + PAGE - 1).expect("in order")
}

/// The engine, the device, and what both have in common: nothing.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) engine: Arc<Engine>,
    pub(super) bus: Arc<Bus>,
    pub(super) iommu: Arc<Mutex<Iommu>>,
    /// What was staged, in any order.
    pub(super) staged: Arc<Mutex<Vec<Op>>>,
    /// How often the device was reset.
    pub(super) resets: Arc<AtomicU64>,
    pub(super) pages: Arc<AtomicU64>,
}

impl Rig {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        model::log(format_args!("{behaviour:?}"));
        let iommu = Arc::new(Mutex::new(Iommu::default()));
        let bus = Arc::new(Bus::new(behaviour, iommu.clone()));
        let engine = Engine::new(Arc::new(device::Device), bus.queue())
            .and_then(|init| init.make().map_err(|never| match never {}))
            .expect("the engine starts");
        Rig {
            engine: Arc::new(engine),
            bus,
            iommu,
            staged: Arc::default(),
            resets: Arc::default(),
            pages: Arc::default(),
        }
    }

    pub(super) fn iommu(&self) -> MutexGuard<'_, Iommu> {
        self.iommu.lock().expect("no task panics here")
    }

    /// A CPU that does something.
    pub(super) fn cpu<T: Send + 'static>(
        &self,
        f: impl FnOnce(Rig) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let rig = self.clone();
        spawn(move || f(rig))
    }

    /// A domain gets its first endpoint.
    pub(super) fn enter(&self, domain: u32) {
        let memory = AccountMemory::new().expect("there is memory");
        self.engine.domain_is_there(domain, memory);
    }

    /// A page that nobody uses, with a hole before it.
    pub(super) fn page(&self) -> u64 {
        2 * self.pages.fetch_add(1, SeqCst)
    }

    pub(super) fn map_to(&self, domain: u32, page: u64, phys: u64) -> Result {
        let request = map_request_to(domain, page, phys);
        loop {
            match self.engine.stage(request) {
                Ok(()) => break,
                Err(error) => self.engine.make_room(error)?,
            }
        }
        self.note(Op::Map(domain, page));
        Ok(())
    }

    pub(super) fn map(&self, domain: u32, page: u64) -> Result {
        self.map_to(domain, page, page * PAGE)
    }

    pub(super) fn unmap(&self, domain: u32, page: u64) -> Result {
        let span = span(page);
        while let Err(error) = self.engine.stage(Request::Unmap { domain, span }) {
            let room = self.engine.make_room(error);
            room.inspect_err(|_| self.engine.lose_unmap(domain, span))?;
        }
        self.note(Op::Unmap(domain, page));
        Ok(())
    }

    pub(super) fn note(&self, op: Op) {
        self.staged.lock().expect("no task panics here").push(op);
    }

    /// Calls `f`, which must see everything answered that is staged by now, if it succeeds.
    pub(super) fn seeing_all(&self, f: impl FnOnce(&Engine) -> Result) -> Result {
        let resets = self.resets.load(SeqCst);
        let staged = self.staged.lock().expect("no task panics here").clone();
        let result = f(&self.engine);
        if result.is_ok() && resets == 0 && self.resets.load(SeqCst) == 0 {
            let seen = &self.iommu().seen;
            let missing: Vec<_> = staged.iter().filter(|op| !seen.contains(op)).collect();
            assert!(
                missing.is_empty(),
                "not answered after a sync: {missing:x?}"
            );
        }
        result
    }

    /// Sends a request, and fails as its status says.
    pub(super) fn call(&self, request: Request) -> Result {
        self.engine.call(request)?.to_result()
    }

    pub(super) fn sync(&self) -> Result {
        self.seeing_all(|engine| engine.sync())
    }

    pub(super) fn sync_map(&self, domain: u32, page: u64) -> Result {
        self.seeing_all(|engine| engine.sync_map(domain, span(page)))
    }

    /// Maps a few pages, and unmaps them again; the device must agree each time.
    pub(super) fn turn(&self, domain: u32) -> Result {
        let pages: Vec<_> = (0..1 + random(3)).map(|_| self.page()).collect();
        for page in &pages {
            self.map(domain, *page)?;
        }
        for page in &pages {
            self.sync_map(domain, *page)?;
        }
        for page in &pages {
            let mapped = self.iommu().mapped.contains(&(domain, *page));
            assert!(mapped, "not mapped after a sync: {page:#x}");
        }
        let (last, others) = pages.split_last().expect("there is one");
        for page in others {
            self.unmap(domain, *page)?;
        }
        self.seeing_all(|engine| engine.unmap_and_sync(domain, span(*last)))?;
        self.note(Op::Unmap(domain, *last));
        for page in &pages {
            let mapped = self.iommu().mapped.contains(&(domain, *page));
            assert!(!mapped, "mapped after a sync: {page:#x}");
        }
        Ok(())
    }

    /// Resets the device and sets it up again, as for a suspend.
    pub(super) fn reset_soon(&self) {
        for _ in 0..random(60) {
            model::step();
        }
        // Odd: it is not to be used.
        self.resets.fetch_add(1, SeqCst);
        self.engine.close();
        assert_eq!(self.map(1, self.page()), Err(ENODEV));
        self.bus.reset();
        let reopened = self.engine.reopen(self.bus.queue());
        reopened.expect("the engine starts again");
        self.resets.fetch_add(1, SeqCst);
    }

    /// How many requests can be staged before there is no room.
    pub(super) fn room(&self) -> usize {
        self.sync().expect("a healthy device");
        let mut room = 0;
        loop {
            let page = self.page();
            match self.engine.stage(map_request(99, page)) {
                Ok(()) => self.note(Op::Map(99, page)),
                Err(StageError::Full) => break,
                Err(StageError::Failed(error)) => panic!("cannot stage: {error:?}"),
            }
            room += 1;
        }
        self.sync().expect("a healthy device");
        room
    }

    /// Ends a run in which nothing went wrong: everything was published, and nothing is lost.
    pub(super) fn end(self, room: usize) {
        self.sync().expect("a healthy device");
        assert_eq!(self.room(), room, "slots were lost or made");
        let stats = self.engine.stats();
        let iommu = self.iommu();
        assert_eq!(stats.requests, iommu.requests, "requests published");
        assert_eq!(stats.refused, iommu.refused, "requests refused");
        drop(iommu);
        self.bus.reset();
    }

    /// Ends a run in which the device went out of use.
    pub(super) fn end_broken(self) {
        self.bus.break_queue();
        let sent = self.iommu().requests;
        let result = self.map(1, self.page());
        assert_eq!(result, Err(EIO), "staged for a device that is out of use");
        assert_eq!(self.call(attach(0)), Err(EIO));
        assert_eq!(
            self.iommu().requests,
            sent,
            "sent to a device that is out of use"
        );
        self.bus.reset();
    }
}

fn map_request_to(domain: u32, page: u64, phys: u64) -> Request {
    Request::Map {
        domain,
        span: span(page),
        phys,
        flags: MapFlag::Read.into(),
    }
}

pub(super) fn map_request(domain: u32, page: u64) -> Request {
    map_request_to(domain, page, page * PAGE)
}

pub(super) fn attach(endpoint: u32) -> Request {
    Request::Attach {
        domain: 1,
        endpoint,
        bypass: false,
    }
}
