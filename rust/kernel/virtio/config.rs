// SPDX-License-Identifier: GPL-2.0

//! The device-specific configuration space of a virtio device.
//!
//! A driver names a field once, as a constant made by
//! [`config_field!`](crate::virtio::config_field), and reads or writes it through
//! [`Device::config_read`], [`Device::config_read_consistent`] and [`Device::config_write`].
//!
//! All fields are little-endian, as section 2.5 of the virtio specification 1.2 has it for devices
//! that are not legacy ones. Rust drivers are bound to no others.
//!
//! C header: [`include/linux/virtio_config.h`](srctree/include/linux/virtio_config.h)

use super::Device;
use crate::{
    bindings,
    device::Bound,
    prelude::*,
    task::might_sleep, //
};
use core::{
    marker::PhantomData,
    mem::size_of, //
};

/// The largest configuration space that a field can lie in, in bytes.
///
/// Not every transport checks an offset against the space that it has. 256 bytes is what all of
/// them have room for: the CCW transport keeps a buffer of `VIRTIO_CCW_CONFIG_SIZE` (256) bytes,
/// the others map whole pages, in which the space starts at offset 256 (MMIO) or that are the
/// space's own (PCI). No device type of the virtio specification has more.
pub const CONFIG_SPACE_MAX: usize = 256;

/// How often a read is tried again while the device changes its configuration.
///
/// A device that changes it more often than the driver can read it is broken, or wants the driver
/// to spin.
const CONFIG_READ_TRIES: usize = 32;

mod private {
    pub trait Sealed {}

    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

/// The type of a field in the configuration space: `u8`, `u16`, `u32` or `u64`.
pub trait ConfigValue: private::Sealed + Copy + 'static {
    /// Makes a value, in the byte order of the CPU, of the first bytes of `bytes`, which are
    /// little-endian.
    #[doc(hidden)]
    fn from_le(bytes: [u8; 8]) -> Self;

    /// The inverse of [`from_le`](Self::from_le).
    #[doc(hidden)]
    fn to_le(self) -> [u8; 8];
}

macro_rules! impl_config_value {
    ($($value:ty),*) => {
        $(
            impl ConfigValue for $value {
                fn from_le(bytes: [u8; 8]) -> Self {
                    // CAST: Keeps the low bytes, which are the first ones.
                    u64::from_le_bytes(bytes) as Self
                }

                fn to_le(self) -> [u8; 8] {
                    u64::from(self).to_le_bytes()
                }
            }
        )*
    };
}

impl_config_value!(u8, u16, u32, u64);

/// A field of type `T` in the configuration space of a device type.
///
/// Made by [`config_field!`](crate::virtio::config_field).
///
/// # Invariants
///
/// The field lies within the first [`CONFIG_SPACE_MAX`] bytes, and `offset`, in bytes, is a
/// multiple of the size of `T`, or of 4 if that is less.
pub struct ConfigField<T: ConfigValue> {
    offset: u32,
    _value: PhantomData<T>,
}

impl<T: ConfigValue> Clone for ConfigField<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ConfigValue> Copy for ConfigField<T> {}

impl<T: ConfigValue> ConfigField<T> {
    /// Creates a field from its offset in the C struct `C`.
    ///
    /// The second argument is never called: its type is what shows that the field of the struct is
    /// a `T`. Use [`config_field!`](crate::virtio::config_field).
    ///
    /// # Panics
    ///
    /// When the field lies outside of `C` or of the first [`CONFIG_SPACE_MAX`] bytes, or is not
    /// aligned. In a constant, that is an error at compile time.
    #[doc(hidden)]
    pub const fn new<C>(offset: usize, _field: fn(C) -> T) -> Self {
        let size = size_of::<T>();

        assert!(offset < CONFIG_SPACE_MAX && offset + size <= CONFIG_SPACE_MAX);
        assert!(offset + size <= size_of::<C>());
        assert!(offset % (if size < 4 { size } else { 4 }) == 0);

        // INVARIANT: The assertions are the invariant.
        Self {
            // CAST: At most `CONFIG_SPACE_MAX`.
            offset: offset as u32,
            _value: PhantomData,
        }
    }
}

/// Names a field of a device type's configuration space, as a
/// [`ConfigField`](crate::virtio::ConfigField).
///
/// It takes the C struct, the path to the field in it and the type of its value in the byte order
/// of the CPU. A field that is not there, of another type, or out of bounds, does not compile.
///
/// # Examples
///
/// ```
/// use kernel::{
///     bindings,
///     device::Bound,
///     prelude::*,
///     virtio::{
///         self,
///         ConfigField, //
///     }, //
/// };
///
/// const FIRST: ConfigField<u64> =
///     virtio::config_field!(bindings::virtio_iommu_config, input_range.start => u64);
/// const LAST: ConfigField<u64> =
///     virtio::config_field!(bindings::virtio_iommu_config, input_range.end => u64);
/// const BYPASS: ConfigField<u8> =
///     virtio::config_field!(bindings::virtio_iommu_config, bypass => u8);
///
/// # #[expect(unused)]
/// fn close(dev: &virtio::Device<Bound>) -> Result<(u64, u64)> {
///     dev.config_write(BYPASS, 0)?;
///     dev.config_read_consistent(|config| (config.read(FIRST), config.read(LAST)))
/// }
/// ```
#[macro_export]
macro_rules! virtio_config_field {
    ($config:ty, $($field:ident).+ => $value:ty) => {
        $crate::virtio::ConfigField::<$value>::new::<$config>(
            ::core::mem::offset_of!($config, $($field).+),
            |config| config.$($field).+,
        )
    };
}
#[doc(inline)]
pub use crate::virtio_config_field as config_field;

/// Reads the configuration space within [`Device::config_read_consistent`].
pub struct ConfigReader<'a> {
    dev: &'a Device<Bound>,
    get: unsafe extern "C" fn(*mut bindings::virtio_device, c_uint, *mut c_void, c_uint),
}

impl ConfigReader<'_> {
    /// Reads one field. May sleep.
    ///
    /// A value of eight bytes may be half old and half new, as may the values of several fields:
    /// [`Device::config_read_consistent`] then discards them.
    pub fn read<T: ConfigValue>(&self, field: ConfigField<T>) -> T {
        // Zeroed, since a transport that fails to read leaves the memory as it is.
        let mut bytes = [0u8; 8];

        // By the type invariants of `ConfigField` the field lies within what each transport has
        // room for, and is aligned as it demands. Its size is 1, 2, 4 or 8: what the transports
        // take.
        //
        // SAFETY: `get` is the operation of `dev`, which is a valid device and bound to a driver,
        // so that its transport is there. The field is one that it can read, see above, and
        // `bytes` has room for it.
        unsafe {
            (self.get)(
                self.dev.as_raw(),
                field.offset,
                bytes.as_mut_ptr().cast(),
                // CAST: At most 8.
                size_of::<T>() as c_uint,
            )
        };
        T::from_le(bytes)
    }
}

impl Device<Bound> {
    /// The number of the device's present configuration; 0 if the transport has no such number.
    fn config_generation(&self) -> u32 {
        match self.config_ops().generation {
            // SAFETY: It is the operation of this device.
            Some(generation) => unsafe { generation(self.as_raw()) },
            None => 0,
        }
    }

    /// Reads several fields of the configuration space, as they are at one time.
    ///
    /// `read` is called again when the device changed its configuration meanwhile, so it should
    /// have no effect other than its result. May sleep.
    ///
    /// Errors: `ENODEV` if the device has no configuration space, `EIO` if it changes all the time.
    pub fn config_read_consistent<R>(
        &self,
        mut read: impl FnMut(&ConfigReader<'_>) -> R,
    ) -> Result<R> {
        might_sleep();

        let reader = ConfigReader {
            dev: self,
            get: self.config_ops().get.ok_or(ENODEV)?,
        };
        let mut before = self.config_generation();
        for _ in 0..CONFIG_READ_TRIES {
            let values = read(&reader);
            let after = self.config_generation();
            if before == after {
                return Ok(values);
            }
            before = after;
        }
        Err(EIO)
    }

    /// Reads one field of the configuration space, in the byte order of the CPU.
    ///
    /// Values of eight bytes, which a device may change between two accesses of four, are read as
    /// they are at one time. May sleep.
    ///
    /// Errors: `ENODEV` if the device has no configuration space, `EIO` if a field of eight bytes
    /// changes all the time.
    pub fn config_read<T: ConfigValue>(&self, field: ConfigField<T>) -> Result<T> {
        if size_of::<T>() > 4 {
            return self.config_read_consistent(|config| config.read(field));
        }
        might_sleep();
        let get = self.config_ops().get.ok_or(ENODEV)?;
        Ok(ConfigReader { dev: self, get }.read(field))
    }

    /// Writes one field of the configuration space; `value` is in the byte order of the CPU.
    ///
    /// May sleep. Whether the device takes the value is for the device to say: read it back to
    /// know.
    ///
    /// Errors: `ENODEV` if the device has no configuration space.
    pub fn config_write<T: ConfigValue>(&self, field: ConfigField<T>, value: T) -> Result {
        might_sleep();

        let set = self.config_ops().set.ok_or(ENODEV)?;
        let bytes = value.to_le();

        // SAFETY: As in `ConfigReader::read`; `bytes` holds at least the size of `T`.
        unsafe {
            set(
                self.as_raw(),
                field.offset,
                bytes.as_ptr().cast(),
                // CAST: At most 8.
                size_of::<T>() as c_uint,
            )
        };
        Ok(())
    }
}
