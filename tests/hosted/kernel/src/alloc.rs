// SPDX-License-Identifier: GPL-2.0

//! Boxes and vectors.

use core::{
    mem::MaybeUninit,
    ops::{
        Deref,
        DerefMut, //
    },
    pin::Pin,
    ptr, //
};
use std::{
    boxed::Box,
    vec::Vec, //
};

use crate::{
    error::{
        Error,
        Result, //
    },
    init::PinInit, //
};

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// What an allocation may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    may_sleep: bool,
}

/// The flags.
pub mod flags {
    use super::Flags;

    /// May sleep.
    pub const GFP_KERNEL: Flags = Flags { may_sleep: true };
    /// May not sleep.
    pub const GFP_ATOMIC: Flags = Flags { may_sleep: false };
    /// May not sleep.
    pub const GFP_NOWAIT: Flags = Flags { may_sleep: false };
}

fn allocate(flags: Flags) {
    #[cfg(feature = "model")]
    crate::model::allocate(flags.may_sleep);
    #[cfg(not(feature = "model"))]
    let _ = flags.may_sleep;
}

/// `Box` with flags.
#[derive(Debug)]
pub struct KBox<T: ?Sized>(Box<T>);

impl<T> KBox<T> {
    /// Moves a value into memory.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        allocate(flags);
        Ok(KBox(Box::new(value)))
    }

    /// Initialises a value in memory.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Pin<Self>>
    where
        Error: From<E>,
    {
        allocate(flags);
        let this = KBox(Box::new(init.make()?));
        // SAFETY: The value is in a box of its own, and does not leave it.
        Ok(unsafe { Pin::new_unchecked(this) })
    }

    /// Memory without a value.
    pub fn new_uninit(flags: Flags) -> Result<KBox<MaybeUninit<T>>, AllocError> {
        allocate(flags);
        Ok(KBox(Box::new(MaybeUninit::uninit())))
    }

    /// Takes the value out.
    pub fn into_inner(this: Self) -> T {
        *this.0
    }

    /// Leaks the value.
    pub fn into_raw(this: Self) -> *mut T {
        Box::into_raw(this.0)
    }

    /// Reverts [`KBox::into_raw`].
    ///
    /// # Safety
    ///
    /// As for [`Box::from_raw`].
    pub unsafe fn from_raw(raw: *mut T) -> Self {
        // SAFETY: By the safety requirement.
        KBox(unsafe { Box::from_raw(raw) })
    }

    /// Drops the value, and keeps the memory.
    pub fn drop_contents(this: Self) -> KBox<MaybeUninit<T>> {
        let raw = Self::into_raw(this);
        // SAFETY: The value is there, and nobody else has it; its memory has the same layout.
        unsafe {
            ptr::drop_in_place(raw);
            KBox(Box::from_raw(raw.cast()))
        }
    }
}

impl<T> KBox<MaybeUninit<T>> {
    /// Says that a value is there.
    ///
    /// # Safety
    ///
    /// It has to be.
    pub unsafe fn assume_init(self) -> KBox<T> {
        // SAFETY: By the safety requirements. The memory has the same layout.
        KBox(unsafe { Box::from_raw(Box::into_raw(self.0).cast()) })
    }

    /// Puts a value there.
    pub fn write(mut this: Self, value: T) -> KBox<T> {
        this.0.write(value);
        // SAFETY: It was just written.
        unsafe { KBox(Box::from_raw(Box::into_raw(this.0).cast())) }
    }
}

impl<T: ?Sized> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Why an element was not appended; it is given back.
#[derive(Debug)]
pub struct PushError<T>(pub T);

/// Why an element was not inserted; it is given back.
#[derive(Debug)]
pub struct InsertError<T>(pub T);

/// There is no such element.
#[derive(Debug)]
pub struct RemoveError;

/// `Vec` with flags. It never allocates on its own.
#[derive(Debug)]
pub struct KVec<T> {
    elements: Vec<T>,
    capacity: usize,
}

impl<T> KVec<T> {
    /// An empty vector.
    pub const fn new() -> Self {
        KVec {
            elements: Vec::new(),
            capacity: 0,
        }
    }

    /// An empty vector with room.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        allocate(flags);
        Ok(KVec {
            elements: Vec::with_capacity(capacity),
            capacity,
        })
    }

    /// How many elements there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room.
    pub fn reserve(&mut self, additional: usize, flags: Flags) -> Result<(), AllocError> {
        let needed = self.elements.len() + additional;
        if needed > self.capacity {
            allocate(flags);
            self.capacity = needed.max(2 * self.capacity);
        }
        Ok(())
    }

    /// Appends an element.
    pub fn push(&mut self, element: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.elements.push(element);
        Ok(())
    }

    /// Appends an element if there is room.
    pub fn push_within_capacity(&mut self, element: T) -> Result<(), PushError<T>> {
        if self.elements.len() == self.capacity {
            return Err(PushError(element));
        }
        self.elements.push(element);
        Ok(())
    }

    /// Inserts an element if there is room.
    pub fn insert_within_capacity(
        &mut self,
        index: usize,
        element: T,
    ) -> Result<(), InsertError<T>> {
        if index > self.elements.len() || self.elements.len() == self.capacity {
            return Err(InsertError(element));
        }
        self.elements.insert(index, element);
        Ok(())
    }

    /// Takes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.elements.pop()
    }

    /// Takes an element out.
    pub fn remove(&mut self, index: usize) -> Result<T, RemoveError> {
        if index >= self.elements.len() {
            return Err(RemoveError);
        }
        Ok(self.elements.remove(index))
    }

    /// Keeps the elements that `keep` wants.
    pub fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.elements.retain_mut(keep);
    }

    /// Drops the elements after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.elements.truncate(len);
    }

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.elements.clear();
    }

    /// Takes all elements out.
    pub fn drain_all(&mut self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.elements.drain(..)
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        &self.elements
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.elements
    }
}

impl<T: Clone> KVec<T> {
    /// `len` times the same.
    pub fn from_elem(value: T, len: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut this = Self::with_capacity(len, flags)?;
        this.elements.resize(len, value);
        Ok(this)
    }
}

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.elements
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.elements
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.elements.into_iter()
    }
}
