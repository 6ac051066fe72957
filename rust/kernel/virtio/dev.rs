// SPDX-License-Identifier: GPL-2.0

//! The virtio device.

use super::DeviceId;
use crate::{
    bindings,
    device,
    prelude::*,
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};

/// A virtio device.
///
/// This is the abstraction of an existing C `struct virtio_device`, which the driver gets from the
/// C side.
///
/// # Invariants
///
/// A [`Device`] instance represents a valid `struct virtio_device` created by the C portion of the
/// kernel. In a context other than [`device::Normal`], it is bound to a driver through
/// [`Adapter`](super::Adapter).
#[repr(transparent)]
pub struct Device<Ctx: device::DeviceContext = device::Normal>(
    Opaque<bindings::virtio_device>,
    PhantomData<Ctx>,
);

impl<Ctx: device::DeviceContext> Device<Ctx> {
    pub(super) fn as_raw(&self) -> *mut bindings::virtio_device {
        self.0.get()
    }

    /// Returns the type and the vendor of the device.
    pub fn id(&self) -> DeviceId {
        // SAFETY: By the type invariants `self.as_raw()` is a valid `struct virtio_device`. The
        // field does not change once the device is registered.
        DeviceId::from_raw(unsafe { (*self.as_raw()).id })
    }
}

impl Device<device::Bound> {
    /// Returns the device that this virtio device is a function of, for instance a PCI device.
    ///
    /// It may well be bound, but to a driver of its own: that stays when the module of this one is
    /// unloaded, so nothing of this module must depend on the end of that binding.
    pub fn parent(&self) -> &device::Device {
        // SAFETY: By the type invariants `self.as_raw()` is a valid `struct virtio_device`, bound
        // to a driver and so registered. It has a reference to its parent for as long as it is;
        // each transport sets the parent before that, and it does not change.
        unsafe { device::Device::from_raw((*self.as_raw()).dev.parent) }
    }

    /// Returns the name of the device on the bus of its transport, for instance the PCI address.
    pub fn bus_name(&self) -> &CStr {
        match self.config_ops().bus_name {
            // SAFETY: It is the operation of this device. It returns a C string that belongs to the
            // parent, which is bound, and keeps its name.
            Some(bus_name) => unsafe { CStr::from_char_ptr(bus_name(self.as_raw())) },
            None => c"virtio",
        }
    }

    /// Whether the feature `bit` is negotiated.
    ///
    /// Any context. `false` for a bit that the driver does not list in
    /// [`Driver::FEATURES`](super::Driver::FEATURES), except for features of the transport and the
    /// ring (bits 28 to 41), which the virtio core negotiates. During
    /// [`Driver::validate`](super::Driver::validate) it tells what is going to be negotiated.
    pub fn has_feature(&self, bit: u32) -> bool {
        let Some(word) = self.feature_word(bit) else {
            return false;
        };

        // SAFETY: `feature_word` returns a valid pointer. The word is only changed while a driver
        // is probed, by the same thread that has the driver's callbacks, or by a concurrent one in
        // the sense of READ_ONCE(), which a volatile read is.
        let features = unsafe { word.read_volatile() };
        features & feature_mask(bit) != 0
    }

    /// Returns the word of the negotiated features that contains `bit`, if there can be such a bit.
    fn feature_word(&self, bit: u32) -> Option<*mut u64> {
        // SAFETY: By the type invariants `self.as_raw()` is a valid `struct virtio_device`. The
        // union's variants are the array and its first element.
        let features = unsafe { &raw mut (*self.as_raw()).__bindgen_anon_1.features_array };
        if bit >= bindings::VIRTIO_FEATURES_BITS {
            return None;
        }
        // CAST: Less than the number of words.
        Some(features.cast::<u64>().wrapping_add((bit / 64) as usize))
    }

    /// The operations of the device's transport.
    pub(super) fn config_ops(&self) -> &bindings::virtio_config_ops {
        // SAFETY: By the type invariants `self.as_raw()` is a valid `struct virtio_device`. Its
        // transport set `config` before it registered the device, to a table that does not change
        // and that lives at least as long as the transport's driver, which is longer than a driver
        // is bound to the device.
        unsafe { &*(*self.as_raw()).config }
    }

    /// The device's status, `VIRTIO_CONFIG_S_*`. May sleep.
    pub(super) fn status(&self) -> u32 {
        let Some(get_status) = self.config_ops().get_status else {
            return 0;
        };
        // SAFETY: It is the operation of this device, which is bound, so that its transport is
        // there.
        u32::from(unsafe { get_status(self.as_raw()) })
    }
}

/// Returns the bit of a feature within its word.
const fn feature_mask(bit: u32) -> u64 {
    1 << (bit % 64)
}

/// The features that are about to be negotiated, during
/// [`Driver::validate`](super::Driver::validate).
///
/// # Invariants
///
/// The device is in its `validate` callback for `'a`, and this is its only `Features`.
pub struct Features<'a>(&'a Device<device::Bound>);

impl<'a> Features<'a> {
    /// Creates the object for a device.
    ///
    /// # Safety
    ///
    /// The device has to be in its `validate` callback for `'a`, and there must be no other
    /// `Features` of it meanwhile.
    pub(super) unsafe fn new(dev: &'a Device<device::Bound>) -> Self {
        // INVARIANT: By the safety requirements.
        Self(dev)
    }

    /// Whether the feature `bit` is offered by the device, and supported by the driver or the
    /// virtio core.
    pub fn has(&self, bit: u32) -> bool {
        self.0.has_feature(bit)
    }

    /// Takes the feature `bit` out of what is negotiated.
    ///
    /// Errors: `EINVAL` if there can be no such bit; `EPERM` for `VIRTIO_F_VERSION_1`,
    /// `VIRTIO_F_ACCESS_PLATFORM` and `VIRTIO_F_ORDER_PLATFORM`. The device offers these because it
    /// needs them: without them it would get addresses or see an order of memory accesses that are
    /// wrong for it.
    pub fn clear(&mut self, bit: u32) -> Result {
        const NEEDED: [u32; 3] = [
            bindings::VIRTIO_F_VERSION_1,
            bindings::VIRTIO_F_ACCESS_PLATFORM,
            bindings::VIRTIO_F_ORDER_PLATFORM,
        ];

        let word = self.0.feature_word(bit).ok_or(EINVAL)?;
        if NEEDED.contains(&bit) {
            return Err(EPERM);
        }
        // SAFETY: `feature_word` returns a valid pointer. By the type invariants the device is in
        // `validate`, where it is up to the driver to change the word, and nobody else has a
        // `Features` of it. Concurrent readers use READ_ONCE() or the like, and so does this.
        unsafe { word.write_volatile(word.read_volatile() & !feature_mask(bit)) };
        Ok(())
    }
}

// SAFETY: `virtio::Device` is a transparent wrapper of `struct virtio_device`. The offset is
// guaranteed to point to a valid device field inside `virtio::Device`.
unsafe impl<Ctx: device::DeviceContext> device::AsBusDevice<Ctx> for Device<Ctx> {
    const OFFSET: usize = offset_of!(bindings::virtio_device, dev);
}

// SAFETY: `Device` is a transparent wrapper of a type that doesn't depend on `Device`'s generic
// argument.
kernel::impl_device_context_deref!(unsafe { Device });
kernel::impl_device_context_into_aref!(Device);

// SAFETY: Instances of `Device` are always reference-counted.
unsafe impl crate::sync::aref::AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: The existence of a shared reference guarantees that the refcount is non-zero.
        unsafe { bindings::get_device(self.as_ref().as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // CAST: `Self` is a transparent wrapper of `bindings::virtio_device`.
        let vdev: *mut bindings::virtio_device = obj.cast().as_ptr();

        // SAFETY: By the type invariant of `Self`, `vdev` is a pointer to a valid
        // `struct virtio_device`.
        let dev = unsafe { &raw mut (*vdev).dev };

        // SAFETY: The safety requirements guarantee that the refcount is non-zero.
        unsafe { bindings::put_device(dev) }
    }
}

impl<Ctx: device::DeviceContext> AsRef<device::Device<Ctx>> for Device<Ctx> {
    fn as_ref(&self) -> &device::Device<Ctx> {
        // SAFETY: By the type invariant of `Self`, `self.as_raw()` is a pointer to a valid
        // `struct virtio_device`.
        let dev = unsafe { &raw mut (*self.as_raw()).dev };

        // SAFETY: `dev` points to a valid `struct device`.
        unsafe { device::Device::from_raw(dev) }
    }
}

// SAFETY: A `Device` is always reference-counted and can be released from any thread.
unsafe impl Send for Device {}

// SAFETY: `Device` can be shared among threads because all methods of `Device`
// (i.e. `Device<Normal>) are thread safe.
unsafe impl Sync for Device {}

// SAFETY: Same as `Device<Normal>`, and what `Device<Bound>` has in addition is thread safe, too:
// the transports allow for concurrent accesses to the configuration space.
unsafe impl Sync for Device<device::Bound> {}
