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
    // Nobody notifies for the CPU that is about to, and is interrupted before it does.
    mutant(
        "owed-notification",
        "wait",
        "looks >= own_notify_at",
        "looks >= u32::MAX",
    ),
    // A sync does not wait for the last request.
    mutant(
        "early-sync",
        "wait",
        "        if state.answered_before() >= target {
            return Ok(Some(state));
        }
        state.check_alive()?;
",
        "        if state.answered_before() + 1 >= target {
            return Ok(Some(state));
        }
        state.check_alive()?;
",
    ),
    // Who watches the counter is told that a request is answered before it is.
    mutant(
        "early-progress",
        "wait",
        "            self.answered_before.store(state.answered_before(), Release);
        }
        progress
",
        "            self.answered_before.store(state.answered_before() + 1, Release);
        }
        progress
",
    ),
    // What is in the ring is not notified.
    mutant(
        "unnotified",
        "ring",
        "if !ring.kick_prepare() && !owed {",
        "if !(ring.kick_prepare() && false) && !owed {",
    ),
    // What was added during a notification is forgotten.
    mutant(
        "forgotten-kick",
        "ring",
        "        self.notifying -= 1;\n",
        "        self.notifying -= 1;\n        self.unkicked = false;\n",
    ),
    // Callers get each other's answers.
    mutant(
        "any-answer",
        "ring",
        "(kept.collected && kept.seq == seq)",
        "kept.collected",
    ),
    // Callers do not wait for each other, although there is one place for their answers.
    mutant(
        "no-turns",
        "mod",
        "        let _alone = self.collecting.lock();\n",
        "",
    ),
    // An answer stays in its slot until its caller comes for it, so that there is one slot less.
    mutant(
        "slot-kept",
        "ring",
        "core::mem::swap(&mut slot, &mut slots.kept);",
        "slots.kept = slot;
                continue;",
    ),
    // Somebody else breaking the queue is not noticed.
    mutant(
        "unnoticed-break",
        "ring",
        "self.check_alive().is_ok() && self.queue.is_broken()",
        "self.queue.is_broken() && false",
    ),
    // A device that does not answer is waited for, for ever.
    mutant(
        "no-end",
        "timeout",
        "            self.grace = self.grace.saturating_sub(1);
",
        "",
    ),
    // Who may sleep gives up with those who may not.
    mutant(
        "impatient",
        "wait",
        "Wait::Sleeps(_) => state.check_alive()?,",
        "Wait::Sleeps(_) => state.check_punctual(target)?,",
    ),
    // A device that is late is taken to be in time again before it has answered.
    mutant(
        "forgiven-early",
        "ring",
        "self.given_up_before = self.given_up_before.max(target);",
        "",
    ),
    // A device that was late is so for good.
    mutant(
        "never-forgiven",
        "ring",
        "self.answered_before() >= self.given_up_before",
        "false",
    ),
    // While the device is late, something is mapped.
    mutant(
        "mapped-late",
        "ring",
        "if self.is_late() && matches!(request, Request::Map { .. }) {",
        "if self.is_late() && false {",
    ),
    // While the device is late, who maps and may sleep fails with those who may not.
    mutant(
        "refused-late",
        "ring",
        "            return Err(StageError::Full);
        }
        Ok(())
",
        "            return Err(StageError::Failed(EIO));
        }
        Ok(())
",
    ),
    // What is unmapped while the device is late, does not get into the ring.
    mutant(
        "unmapped-never",
        "ring",
        "if self.is_late() && matches!(request, Request::Map { .. }) {",
        "if self.is_late() {",
    ),
    // What could not be unmapped is mapped again.
    mutant(
        "unbarred",
        "mod",
        "self.state.lock().refused.accounts.bar(domain, span);",
        "",
    ),
    // Before the end, somebody is still waited for.
    mutant(
        "endless-end",
        "wait",
        "            if let Wait::Sleeps(_) = wait {
                state.check_end();
            }
",
        "",
    ),
    // After a reset, numbers start again.
    mutant(
        "numbers-restart",
        "ring",
        "        slots.window.skip_to(self.next());\n",
        "",
    ),
    // A domain that is about to lose its last endpoint gets no credit.
    mutant(
        "unforgiven",
        "accounts",
        "account.denied = account.is_leaving;",
        "account.denied = !account.is_leaving;",
    ),
    // Refusals are forgotten before they come.
    mutant(
        "forgets-early",
        "mod",
        "        let _ = self.sync_sleeping(&fmt!(\"requests of domain {domain}\"));
",
        "",
    ),
    // What a domain was denied that is there after all, is taken to be mapped.
    mutant(
        "believed",
        "accounts",
        "account.barred.add_or_cover(Span::ALL);",
        "",
    ),
    // The same, by who waits for the answer.
    mutant(
        "believed-map",
        "accounts",
        "account.missing.add_or_cover(Span::ALL);",
        "",
    ),
    // Before the end, endpoints are taken for detached before the device has answered.
    mutant(
        "hasty-end",
        "mod",
        "            let staged = stage();
            self.sync_sleeping(what)?;
",
        "            let staged = stage();
",
    ),
    // Before the end, what was refused is not reported if something else is not answered.
    mutant(
        "lost-report",
        "mod",
        "        report();
        detached
",
        "        detached
",
    ),
    // While there is no memory for a request, it is tried again and again.
    mutant(
        "hot-loop",
        "mod",
        "Err(error) => self.make_room_for(error, Wait::Sleeps(what))?,",
        "Err(StageError::Full) => (),
                Err(StageError::Failed(error)) => return Err(error),",
    ),
    // Before the end, memory for a request is still waited for.
    mutant(
        "endless-shortage",
        "wait",
        "
        if let Wait::Sleeps(_) = wait {
            state.check_end();
        }
",
        "",
    ),
    // Before the end, more endpoints than the ring has room for are forgotten.
    mutant(
        "one-ring-full",
        "mod",
        "            state.stage(request)?;
",
        "            let _ = state.stage(request);
",
    ),
    // Before the end, an endpoint that stays is not reported.
    mutant(
        "silent-end",
        "refused",
        "                let _ = self.undetached.push_within_capacity((request, status));
",
        "",
    ),
    // Before the end, no domain gets credit.
    mutant(
        "unforgiven-end",
        "refused",
        "if all_leave || self",
        "if self",
    ),
    // A refused MAP is forgotten.
    mutant(
        "lost-failure",
        "accounts",
        "account.missing.add_or_cover(span);",
        "",
    ),
    // A refused UNMAP is forgotten.
    mutant(
        "lost-stale",
        "accounts",
        "account.barred.add_or_cover(span)",
        "()",
    ),
    // A refused MAP is remembered although its range is mapped again.
    mutant(
        "never-outdated",
        "accounts",
        "            account.missing.remove(span);\n",
        "",
    ),
    // A refused MAP is told to everybody who asks.
    mutant(
        "told-twice",
        "accounts",
        "account.missing.remove(span).then_some(account.error)",
        "account.missing.overlaps(span).then_some(account.error)",
    ),
    // That something was refused is not counted.
    mutant(
        "uncounted",
        "accounts",
        "        self.in_use += usize::from(!account.is_empty());\n",
        "",
    ),
    // What was refused of one domain is an affair of all of them.
    mutant(
        "common-account",
        "accounts",
        "self.by_domain.get_mut(&domain)?",
        "self.by_domain.values_mut().next()?",
    ),
    // More than there is room for is forgotten.
    mutant(
        "no-cover",
        "spans",
        "            self.cover();
            // There is room for a second.
",
        "",
    ),
    // Memory for a request is waited for, for ever.
    mutant(
        "hope-for-ever",
        "wait",
        "Wait::Spins if for_long => return Err(ENOMEM),",
        "Wait::Spins if for_long && false => return Err(ENOMEM),",
    ),
    // A request that cannot be mapped for DMA breaks the device at once.
    mutant("no-hope", "ring", "if error == ENOMEM ||", "if false ||"),
];
