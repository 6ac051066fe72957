// SPDX-License-Identifier: GPL-2.0

//! Locks, atomics and references.

use core::ops::{
    Deref,
    DerefMut, //
};

use crate::model::{
    self,
    View, //
};

pub use crate::{
    new_mutex,
    new_spinlock_irq, //
};

/// A spinlock that keeps interrupts off.
pub struct SpinLockIrq<T>(shuttle::sync::Mutex<Locked<T>>);

struct Locked<T> {
    value: T,
    /// What the last owner knew.
    view: View,
}

impl<T> SpinLockIrq<T> {
    /// A lock.
    pub fn new(value: T) -> Self {
        SpinLockIrq(shuttle::sync::Mutex::new(Locked {
            value,
            view: View::default(),
        }))
    }

    /// Takes the lock.
    pub fn lock(&self) -> SpinLockIrqGuard<'_, T> {
        model::enter_atomic();
        model::step();
        let inner = self.0.lock().expect("no task panics");
        model::join_view(&inner.view);
        SpinLockIrqGuard { inner: Some(inner) }
    }
}

/// Holds a [`SpinLockIrq`].
pub struct SpinLockIrqGuard<'a, T> {
    inner: Option<shuttle::sync::MutexGuard<'a, Locked<T>>>,
}

impl<T> Deref for SpinLockIrqGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner.as_ref().expect("held").value
    }
}

impl<T> DerefMut for SpinLockIrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner.as_mut().expect("held").value
    }
}

impl<T> Drop for SpinLockIrqGuard<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(mut inner) = self.inner.take() {
            inner.view.join(&model::view());
        }
        model::leave_atomic();
    }
}

/// `new_spinlock_irq!`
#[macro_export]
macro_rules! new_spinlock_irq {
    ($value:expr $(, $name:literal)? $(,)?) => {
        $crate::sync::SpinLockIrq::new($value)
    };
}

/// A lock whose owner may sleep, and is interrupted.
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock.
    pub fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    /// Takes the lock. What an owner knew is not passed on to the next.
    pub fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        model::may_sleep();
        self.0.lock().expect("no task panics")
    }
}

/// `new_mutex!`
#[macro_export]
macro_rules! new_mutex {
    ($value:expr $(, $name:literal)? $(,)?) => {
        $crate::sync::Mutex::new($value)
    };
}

/// References that are counted by what they refer to.
pub mod aref {
    /// On the host the count is beside it.
    pub type ARef<T> = std::sync::Arc<T>;
}

/// Atomics.
pub mod atomic {
    use std::sync::Mutex;

    use crate::model::{
        self,
        Defect,
        View, //
    };

    /// An order in memory.
    pub trait Ordering {
        /// Whether a load acquires.
        const ACQUIRES: bool;
        /// Whether a store releases.
        const RELEASES: bool;
    }

    macro_rules! orderings {
        ($($name:ident: $acquires:literal, $releases:literal;)*) => {
            $(
                #[allow(missing_docs)]
                pub struct $name;

                impl Ordering for $name {
                    const ACQUIRES: bool = $acquires;
                    const RELEASES: bool = $releases;
                }
            )*
        };
    }

    orderings! {
        Relaxed: false, false;
        Acquire: true, false;
        Release: false, true;
        Full: true, true;
    }

    /// A value that was stored, and what its task knew, if it released that.
    struct Stored<T> {
        value: T,
        view: View,
    }

    /// An atomic variable: a history of values.
    ///
    /// For each variable a task has a lower limit, the oldest value that it may still find. Storing
    /// or finding a value raises the limit to that value. Acquiring a value that was released
    /// raises all limits to what they were for the task that released it. This is the
    /// release-acquire fragment of the C11 memory model; there are no fences in it.
    pub struct Atomic<T> {
        location: usize,
        history: Mutex<Vec<Stored<T>>>,
    }

    impl<T: Copy + PartialEq> Atomic<T> {
        /// A variable.
        pub fn new(value: T) -> Self {
            Atomic {
                location: model::new_location(),
                history: Mutex::new(vec![Stored {
                    value,
                    view: View::default(),
                }]),
            }
        }

        fn with<R>(&self, f: impl FnOnce(&mut Vec<Stored<T>>) -> R) -> R {
            f(&mut self.history.lock().expect("no task panics here"))
        }

        /// Loads a value.
        pub fn load<O: Ordering>(&self, _: O) -> T {
            model::interrupt_point();
            let oldest = model::with_view(|view| view.get(self.location));
            // Whoever finds the same again and again need not give way each time.
            if oldest + 1 < self.with(|history| history.len()) || model::once_in(32) {
                model::step();
            }
            self.with(|history| {
                let newest = history.len() - 1;
                let found = if newest > oldest && model::once_in(2) {
                    oldest + model::random(newest - oldest + 1)
                } else {
                    newest
                };
                let stored = &history[found];
                model::with_view(|view| view.raise(self.location, found));
                if O::ACQUIRES && !model::has(Defect::AcquireIgnored) {
                    model::join_view(&stored.view);
                }
                stored.value
            })
        }

        /// Stores a value.
        pub fn store<O: Ordering>(&self, value: T, _: O) {
            model::interrupt_point();
            model::step();
            self.with(|history| self.append::<O>(history, value, View::default()));
        }

        fn append<O: Ordering>(&self, history: &mut Vec<Stored<T>>, value: T, mut view: View) {
            let index = history.len();
            model::with_view(|mine| {
                mine.raise(self.location, index);
                if O::RELEASES {
                    view.join(mine);
                }
            });
            view.raise(self.location, index);
            history.push(Stored { value, view });
        }

        /// Replaces the newest value, unless `f` says no; returns what it was.
        fn update<O: Ordering>(&self, f: impl FnOnce(T) -> Option<T>) -> Result<T, T> {
            model::interrupt_point();
            model::step();
            self.with(|history| {
                let newest = history.len() - 1;
                let before = history[newest].value;
                let view = history[newest].view.clone();
                model::with_view(|mine| mine.raise(self.location, newest));
                if O::ACQUIRES && !model::has(Defect::AcquireIgnored) {
                    model::join_view(&view);
                }
                let Some(value) = f(before) else {
                    return Err(before);
                };
                // What was released to the value before is released to this one.
                self.append::<O>(history, value, view);
                Ok(before)
            })
        }

        /// Exchanges the value.
        pub fn xchg<O: Ordering>(&self, value: T, _: O) -> T {
            self.update::<O>(|_| Some(value)).unwrap_or(value)
        }

        /// Exchanges the value if it is `old`.
        pub fn cmpxchg<O: Ordering>(&self, old: T, new: T, _: O) -> Result<T, T> {
            self.update::<O>(|value| (value == old).then_some(new))
        }
    }

    macro_rules! arithmetic {
        ($($int:ty),*) => {
            $(
                impl Atomic<$int> {
                    /// Adds; returns what it was.
                    pub fn fetch_add<O: Ordering>(&self, value: $int, _: O) -> $int {
                        self.update::<O>(|old| Some(old.wrapping_add(value)))
                            .unwrap_or(value)
                    }

                    /// Subtracts; returns what it was.
                    pub fn fetch_sub<O: Ordering>(&self, value: $int, _: O) -> $int {
                        self.update::<O>(|old| Some(old.wrapping_sub(value)))
                            .unwrap_or(value)
                    }

                    /// Adds.
                    pub fn add<O: Ordering>(&self, value: $int, order: O) {
                        self.fetch_add(value, order);
                    }
                }
            )*
        };
    }

    arithmetic!(i32, i64, u32, u64, usize);
}
