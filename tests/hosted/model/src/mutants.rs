// SPDX-License-Identifier: GPL-2.0

// Errors that somebody could make in the engine. For each there is a scenario that must fail.

/// A change to a source file.
#[allow(dead_code)] // The build script makes it.
pub struct Mutant {
    pub name: &'static str,
    pub module: &'static str,
    /// What is there, exactly once.
    pub find: &'static str,
    pub replace: &'static str,
}

pub const MUTANTS: &[Mutant] = &[
    // Nobody notifies for the CPU that has published and is interrupted before it notifies.
    Mutant {
        name: "owed-notification",
        module: "request",
        find: "} else if looks >= own_notify_at {",
        replace: "} else if false && looks >= own_notify_at {",
    },
    // What is published is not notified.
    Mutant {
        name: "unnotified",
        module: "request",
        find: "        state.queue.kick_prepare()\n",
        replace: "        state.queue.kick_prepare() && false\n",
    },
    // A sync does not wait for the last request.
    Mutant {
        name: "early-sync",
        module: "request",
        find: "*target.get_or_insert(state.staging.window.next());",
        replace: "*target.get_or_insert(state.staging.window.next().saturating_sub(1));",
    },
    // The answer counter goes up before the failures are told.
    Mutant {
        name: "swapped-stores",
        module: "request",
        find: "        self.has_failures.store(!state.failures.is_empty(), Release);
        self.answered_before
            .store(state.staging.window.base(), Release);",
        replace: "        self.answered_before
            .store(state.staging.window.base(), Release);
        self.has_failures.store(!state.failures.is_empty(), Release);",
    },
    // Callers get each other's answers.
    Mutant {
        name: "any-answer",
        module: "request",
        find: "position(|slot| slot.seq == seq)?",
        replace: "position(|slot| slot.seq == seq || true)?",
    },
    // Somebody else breaking the queue is not noticed.
    Mutant {
        name: "unnoticed-break",
        module: "request",
        find: "state.health == Health::Running && state.queue.is_broken()",
        replace: "false && state.health == Health::Running && state.queue.is_broken()",
    },
    // A device that does not answer is waited for, for ever.
    Mutant {
        name: "no-end",
        module: "request",
        find: "self.overdue > GRACE_LOOKS",
        replace: "self.overdue > GRACE_LOOKS && false",
    },
    // After a reset, numbers start again.
    Mutant {
        name: "numbers-restart",
        module: "request",
        find: "            staging.continue_from(state.staging.window.next());\n",
        replace: "",
    },
    // A refused MAP is forgotten.
    Mutant {
        name: "lost-failure",
        module: "failures",
        find: "self.record(domain, span, Kind::Map(error))",
        replace: "Ok(())",
    },
    // An UNMAP overtakes a MAP of the same range.
    Mutant {
        name: "overtaking",
        module: "staging",
        find: "                _ => return false,\n",
        replace: "                _ => (),\n",
    },
    // What follows a request that cannot be published yet is published before it.
    Mutant {
        name: "reordered",
        module: "staging",
        find: "let kept = if staged.is_empty() {",
        replace: "let kept = if staged.is_empty() || true {",
    },
];
