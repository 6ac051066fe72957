// SPDX-License-Identifier: GPL-2.0

//! The world that the model runs in: CPUs and their interrupts, memory order, time.
//!
//! A *task* is a CPU. [shuttle] runs one at a time and switches between them at each operation on a
//! lock, an atomic or a virtqueue, as a [scheduler](Order) says; what is not left to it is decided
//! by a generator of random numbers. Both start from a seed, so that a run can be repeated.
//!
//! What of the kernel's world there is:
//!
//! - **Interrupts.** Code that a task has registered with [`on_interrupt`] runs in the middle of
//!   what the task does, at any operation where no lock is held, and to its end.
//! - **Weak memory order.** A load may find any value that the task does not know to be outdated,
//!   and only acquiring what was released, or taking a lock, lets it know; see
//!   [`Atomic`](crate::sync::atomic::Atomic).
//! - **Context.** Spinning, notifying a device and allocating memory that may sleep are refused
//!   where a lock is held.
//! - **Time** passes by a [tick](set_tick) each time that it is looked at.
//!
//! To show that what is built on this can fail, the world can be made a wrong one, by a
//! [`Defect`].

use std::{
    cell::RefCell,
    collections::VecDeque,
    time::Duration, //
};

use shuttle::{
    scheduler::{
        Schedule,
        Scheduler,
        Task,
        TaskId, //
    },
    thread, //
};

/// A way for the world to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Notifications do not reach the device.
    NotifyLost,
    /// A queue does not tell that it is broken.
    BreakHidden,
    /// Time stands still.
    ClockStands,
    /// Acquiring acquires nothing.
    AcquireIgnored,
    /// The queue gives back a buffer that the device still has.
    EarlyPop,
}

impl Defect {
    /// All of them, by name.
    pub const ALL: [(&'static str, Defect); 5] = [
        ("notify-lost", Defect::NotifyLost),
        ("break-hidden", Defect::BreakHidden),
        ("clock-stands", Defect::ClockStands),
        ("acquire-ignored", Defect::AcquireIgnored),
        ("early-pop", Defect::EarlyPop),
    ];
}

/// A generator of random numbers (splitmix64), the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// For each atomic, by number, the oldest of its values that a task may still find.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(Vec<usize>);

impl View {
    pub(crate) fn get(&self, location: usize) -> usize {
        self.0.get(location).copied().unwrap_or(0)
    }

    pub(crate) fn raise(&mut self, location: usize, to: usize) {
        if self.0.len() <= location {
            self.0.resize(location + 1, 0);
        }
        self.0[location] = self.0[location].max(to);
    }

    pub(crate) fn join(&mut self, other: &View) {
        for (location, value) in other.0.iter().enumerate() {
            self.raise(location, *value);
        }
    }
}

type Handler = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Cpu {
    view: View,
    /// Locks held, and whatever else keeps interrupts off.
    atomic: u32,
    in_interrupt: bool,
    /// What interrupts it, and after how many operations.
    interrupts: VecDeque<(usize, Handler)>,
}

struct World {
    random: Random,
    defect: Option<Defect>,
    cpus: Vec<Cpu>,
    locations: usize,
    now: i64,
    tick: i64,
    log: Vec<String>,
    allocations: u64,
    unmappable: usize,
}

std::thread_local! {
    // All tasks run on one thread of the host.
    static WORLD: RefCell<World> = RefCell::new(World::new(0, None));
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        World {
            random: Random::new(seed),
            defect,
            cpus: Vec::new(),
            locations: 0,
            now: 0,
            tick: 1000,
            log: Vec::new(),
            allocations: 0,
            unmappable: 0,
        }
    }

    fn cpu(&mut self) -> &mut Cpu {
        let me = usize::from(shuttle::current::me());
        if self.cpus.len() <= me {
            self.cpus.resize_with(me + 1, Cpu::default);
        }
        &mut self.cpus[me]
    }
}

fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| f(&mut world.borrow_mut()))
}

/// Makes a new world.
pub fn create(seed: u64, defect: Option<Defect>) {
    let old = WORLD.with(|world| world.replace(World::new(seed, defect)));
    drop(old);
}

/// A number below `bound`, at random.
pub fn random(bound: usize) -> usize {
    with(|world| world.random.below(bound))
}

/// Yes, once in `n` times.
pub fn once_in(n: usize) -> bool {
    n != 0 && random(n) == 0
}

/// Whether the world has this defect.
pub fn has(defect: Defect) -> bool {
    with(|world| world.defect == Some(defect))
}

/// A point where the scheduler may switch to another CPU.
pub fn step() {
    thread::sleep(Duration::ZERO);
}

/// Starts a CPU.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let before = view();
    JoinHandle(thread::spawn(move || {
        join_view(&before);
        let value = f();
        (value, view())
    }))
}

/// A CPU that was started.
pub struct JoinHandle<T>(thread::JoinHandle<(T, View)>);

impl<T> JoinHandle<T> {
    /// Waits until it has come to its end.
    pub fn join(self) -> T {
        let (value, after) = self.0.join().expect("the task ends");
        join_view(&after);
        value
    }
}

/// Lets `handler` interrupt this CPU after so many operations at which it can.
pub fn on_interrupt(after: usize, handler: impl FnOnce() + Send + 'static) {
    let handler: Handler = Box::new(handler);
    with(|world| world.cpu().interrupts.push_back((after, handler)));
}

/// A point where this CPU may be interrupted.
pub(crate) fn interrupt_point() {
    let handler = with(|world| {
        let cpu = world.cpu();
        if cpu.atomic > 0 || cpu.in_interrupt {
            return None;
        }
        let (after, _) = cpu.interrupts.front_mut()?;
        if *after > 0 {
            *after -= 1;
            return None;
        }
        cpu.in_interrupt = true;
        cpu.interrupts.pop_front()
    });
    if let Some((_, handler)) = handler {
        handler();
        with(|world| world.cpu().in_interrupt = false);
    }
}

/// A point where this CPU may turn to another task.
pub(crate) fn may_sleep() {
    let atomic = with(|world| world.cpu().atomic > 0 || world.cpu().in_interrupt);
    assert!(!atomic, "sleeps in atomic context");
    step();
}

/// Keeps interrupts off.
pub(crate) fn enter_atomic() {
    interrupt_point();
    with(|world| world.cpu().atomic += 1);
}

/// Leaves the guest: nothing interrupts the CPU until [`leave_atomic`].
pub(crate) fn enter_device() {
    with(|world| world.cpu().atomic += 1);
}

/// Allows interrupts again.
pub(crate) fn leave_atomic() {
    with(|world| world.cpu().atomic -= 1);
    interrupt_point();
}

/// Fails if a lock is held.
pub(crate) fn assert_no_lock(what: &str) {
    let held = with(|world| world.cpu().atomic);
    assert_eq!(held, 0, "{what} with a lock held");
}

/// Notes an allocation; fails if this is no place for it.
pub(crate) fn allocate(may_sleep: bool) {
    let context = with(|world| {
        world.allocations += 1;
        let cpu = world.cpu();
        cpu.atomic > 0 || cpu.in_interrupt
    });
    assert!(
        !(may_sleep && context),
        "an allocation sleeps in atomic context"
    );
}

/// From now on, one in so many buffers cannot be mapped for DMA; 0 for none.
pub fn set_unmappable(one_in: usize) {
    with(|world| world.unmappable = one_in);
}

pub(crate) fn is_unmappable() -> bool {
    with(|world| world.unmappable != 0 && world.random.below(world.unmappable) == 0)
}

/// How many allocations there were.
pub fn allocations() -> u64 {
    with(|world| world.allocations)
}

pub(crate) fn new_location() -> usize {
    with(|world| {
        world.locations += 1;
        world.locations - 1
    })
}

pub(crate) fn view() -> View {
    with(|world| world.cpu().view.clone())
}

pub(crate) fn with_view<R>(f: impl FnOnce(&mut View) -> R) -> R {
    with(|world| f(&mut world.cpu().view))
}

pub(crate) fn join_view(other: &View) {
    with_view(|view| view.join(other));
}

/// Sets by how much time goes on, each time that somebody looks, in nanoseconds.
pub fn set_tick(tick: i64) {
    with(|world| world.tick = tick);
}

/// The time, a tick after the last look, in nanoseconds.
pub(crate) fn now() -> i64 {
    pass(with(|world| world.tick));
    with(|world| world.now)
}

/// Lets so many nanoseconds pass.
pub(crate) fn pass(nanoseconds: i64) {
    with(|world| {
        if world.defect != Some(Defect::ClockStands) {
            world.now += nanoseconds;
        }
    });
}

/// Writes to the kernel's log.
pub fn log(message: core::fmt::Arguments<'_>) {
    let message = message.to_string();
    with(|world| world.log.push(message));
}

/// What is in the kernel's log.
pub fn take_log() -> Vec<String> {
    with(|world| core::mem::take(&mut world.log))
}

/// In which order things happen.
///
/// Either each step is that of a random CPU; or CPUs have priorities, the highest runs, and loses
/// its priority when it spins, and at a few steps chosen at random. This is *probabilistic
/// concurrency testing* (Burckhardt and others, ASPLOS 2010), which finds what needs one CPU to
/// stay away for long.
pub struct Order {
    random: Random,
    started: bool,
    priorities: Option<Vec<usize>>,
    lowest: usize,
    changes: Vec<usize>,
    steps: usize,
}

impl Order {
    /// An order for one run.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let by_priority = random.below(3) > 0;
        // Many changes at the beginning, fewer later on.
        let changes = (0..1 + random.below(5))
            .map(|_| {
                let range = 1 << (4 + random.below(7));
                random.below(range)
            })
            .collect();
        Order {
            priorities: by_priority.then(Vec::new),
            random,
            started: false,
            lowest: 0,
            changes,
            steps: 0,
        }
    }
}

impl Scheduler for Order {
    fn new_execution(&mut self) -> Option<Schedule> {
        if core::mem::replace(&mut self.started, true) {
            return None;
        }
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let Some(priorities) = &mut self.priorities else {
            return Some(runnable[self.random.below(runnable.len())].id());
        };
        if runnable.len() > 1 {
            self.steps += 1;
            if is_yielding || self.changes.contains(&self.steps) {
                if let Some(current) = current.map(usize::from) {
                    self.lowest += 1;
                    if let Some(priority) = priorities.get_mut(current) {
                        *priority = usize::MAX / 2 - self.lowest;
                    }
                }
            }
        }
        for task in runnable {
            let id = usize::from(task.id());
            while priorities.len() <= id {
                priorities.push(usize::MAX / 2 + self.random.below(1 << 32));
            }
        }
        runnable
            .iter()
            .max_by_key(|task| priorities[usize::from(task.id())])
            .map(|task| task.id())
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}
