// SPDX-License-Identifier: GPL-2.0

//! Structures as they lie in memory that the device reads or writes.

/// Declares a structure of little-endian fields, and asserts at compile time that it has the layout
/// of a structure of the C header.
///
/// ```ignore
/// wire! {
///     struct Detach: virtio_iommu_req_detach - TAIL {
///         head: U32,
///         domain: U32,
///         endpoint: U32,
///         reserved: [u8; 8],
///     }
/// }
/// ```
///
/// Each field is where the C structure has the one of its name, and `- TAIL` says that the C
/// structure has so many bytes more at its end. An alignment of 1 means that there is no padding,
/// and that any bytes of the right number can be read as such a structure, wherever they lie.
macro_rules! wire {
    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident: $c_name:ident $(- $tail:ident)? {
            $($field:ident: $type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(
            zerocopy_derive::FromBytes,
            zerocopy_derive::Immutable,
            zerocopy_derive::IntoBytes,
            zerocopy_derive::KnownLayout,
        )]
        $vis struct $name {
            $($field: $type,)*
        }

        $(
            static_assert!(
                ::core::mem::offset_of!($name, $field)
                    == ::core::mem::offset_of!(bindings::$c_name, $field)
            );
        )*
        static_assert!(size_of::<$name>() $(+ $tail)? == size_of::<bindings::$c_name>());
        static_assert!(align_of::<$name>() == 1);
    };
}
pub(super) use wire;
