// SPDX-License-Identifier: GPL-2.0

// Errors that somebody could make in the engine. For each there is a scenario that must fail.

/// A change to a source file.
#[allow(dead_code)] // The build script makes it.
pub struct Mutant {
    pub name: &'static str,
    /// The module, what is there exactly once, and what comes in its place.
    pub module: &'static str,
    pub find: &'static str,
    pub replace: &'static str,
}

const fn mutant(
    name: &'static str,
    module: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Mutant {
    Mutant {
        name,
        module,
        find,
        replace,
    }
}

pub const MUTANTS: &[Mutant] = &[
    // Nobody notifies for the CPU that has published and is interrupted before it notifies.
    mutant(
        "owed-notification",
        "request",
        "looks >= own_notify_at",
        "looks >= u32::MAX",
    ),
    // A sync does not wait for the last request.
    mutant(
        "early-sync",
        "request",
        "*target.get_or_insert(state.staging.window.next());",
        "*target.get_or_insert(state.staging.window.next().saturating_sub(1));",
    ),
    // What is published is not notified.
    mutant(
        "unnotified",
        "request",
        "        state.queue.kick_prepare()\n",
        "        state.queue.kick_prepare() && false\n",
    ),
    // The answer counter goes up before the failures are told.
    mutant(
        "swapped-stores",
        "request",
        "        self.has_failures.store(!state.failures.is_empty(), Release);
        self.answered_before
            .store(state.staging.window.base(), Release);",
        "        self.answered_before
            .store(state.staging.window.base(), Release);
        self.has_failures.store(!state.failures.is_empty(), Release);",
    ),
    // Callers get each other's answers.
    mutant(
        "any-answer",
        "request",
        "position(|slot| slot.seq == seq)?",
        "position(|slot| slot.seq == seq || true)?",
    ),
    // Somebody else breaking the queue is not noticed.
    mutant(
        "unnoticed-break",
        "request",
        "state.health == Health::Running && state.queue.is_broken()",
        "state.queue.is_broken() && false",
    ),
    // A device that does not answer is waited for, for ever.
    mutant(
        "no-end",
        "request",
        "self.overdue > GRACE_LOOKS",
        "self.overdue > u32::MAX - 1",
    ),
    // After a reset, numbers start again.
    mutant(
        "numbers-restart",
        "request",
        "            staging.continue_from(state.staging.window.next());\n",
        "",
    ),
    // A slot from before a reset is taken into the pool from after it.
    mutant(
        "late-slot",
        "staging",
        "if slot.seq < self.first {",
        "if false {",
    ),
    // A refused MAP is forgotten.
    mutant(
        "lost-failure",
        "failures",
        "self.record(domain, span, Kind::Map(error))",
        "Ok(())",
    ),
    // An UNMAP overtakes a MAP of the same range.
    mutant(
        "overtaking",
        "staging",
        "                _ => return false,\n",
        "                _ => (),\n",
    ),
    // What follows a request that cannot be published yet is published before it.
    mutant(
        "reordered",
        "staging",
        "let kept = if staged.is_empty() {",
        "let kept = if staged.is_empty() || true {",
    ),
];
