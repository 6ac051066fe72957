// SPDX-License-Identifier: GPL-2.0

//! The uapi header of the device, and what the red-black tree needs.

#![allow(
    non_camel_case_types,
    non_upper_case_globals,
    missing_docs,
    clippy::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

#[cfg(feature = "rbtree")]
pub use rbtree::*;

#[cfg(feature = "rbtree")]
mod rbtree {
    use core::ptr;

    /// `struct rb_node`. It is aligned, as in C: the lowest bit of the first field is the colour.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct rb_node {
        pub __rb_parent_color: usize,
        pub rb_right: *mut rb_node,
        pub rb_left: *mut rb_node,
    }

    impl Default for rb_node {
        fn default() -> Self {
            rb_node {
                __rb_parent_color: 0,
                rb_right: ptr::null_mut(),
                rb_left: ptr::null_mut(),
            }
        }
    }

    /// `struct rb_root`
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct rb_root {
        pub rb_node: *mut rb_node,
    }

    impl Default for rb_root {
        fn default() -> Self {
            rb_root {
                rb_node: ptr::null_mut(),
            }
        }
    }

    extern "C" {
        pub fn rb_insert_color(node: *mut rb_node, root: *mut rb_root);
        pub fn rb_erase(node: *mut rb_node, root: *mut rb_root);
        pub fn rb_next(node: *const rb_node) -> *mut rb_node;
        pub fn rb_prev(node: *const rb_node) -> *mut rb_node;
        pub fn rb_first(root: *const rb_root) -> *mut rb_node;
        pub fn rb_last(root: *const rb_root) -> *mut rb_node;
        pub fn rb_first_postorder(root: *const rb_root) -> *mut rb_node;
        pub fn rb_next_postorder(node: *const rb_node) -> *mut rb_node;
        pub fn rb_replace_node(victim: *mut rb_node, new: *mut rb_node, root: *mut rb_root);
    }

    /// # Safety
    ///
    /// `node` must be writable, and `link` the place that `parent` has for it.
    pub unsafe fn rb_link_node(node: *mut rb_node, parent: *mut rb_node, link: *mut *mut rb_node) {
        // SAFETY: By the safety requirements.
        unsafe {
            (*node).__rb_parent_color = parent as usize;
            (*node).rb_left = ptr::null_mut();
            (*node).rb_right = ptr::null_mut();
            *link = node;
        }
    }
}
