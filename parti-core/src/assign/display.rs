//! A plan as an operator reads it.

use core::fmt;

use super::{Fit, Move, MoveReason, Plan};
use crate::ids::Slot;

/// So many moves are shown one by one; `{:#}` shows all.
const SHOWN_MOVES: usize = 20;

impl fmt::Display for Plan {
    /// What changes hands and why, how even the load is before and after, and whether that is all. Without `#` only the
    /// first moves are listed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        writeln!(f, "{} partitions on {} workers", figures.partitions, figures.workers)?;
        write!(f, "moves     {}", figures.moved)?;
        for reason in MoveReason::ALL {
            let count = self.moves.iter().filter(|change| change.reason == reason).count();
            if count > 0 {
                write!(f, ", {count} {reason}")?;
            }
        }
        writeln!(f)?;
        writeln!(f, "least     {} moves can do it, all rounds together", figures.least_moves)?;
        writeln!(f, "budget    {} of {} used", figures.staying_moved - figures.displaced, figures.budget)?;
        writeln!(
            f,
            "highest   {} → {} of the mean load",
            Thousandths(figures.before.peak_permille),
            Thousandths(figures.after.peak_permille)
        )?;
        writeln!(
            f,
            "lowest    {} → {}",
            Thousandths(figures.before.least_permille),
            Thousandths(figures.after.least_permille)
        )?;
        if figures.spilled_before + figures.spilled_after > 0 {
            let (before, after) = (figures.spilled_before, figures.spilled_after);
            writeln!(f, "spilled   {before} → {after} are not with a worker that they prefer")?;
        }
        if figures.crowded_before + figures.crowded_after > 0 {
            let (before, after) = (figures.crowded_before, figures.crowded_after);
            writeln!(f, "crowded   {before} → {after} are with others from which they are to be apart")?;
        }
        let without_room = self.without_room.iter().map(|(_, count)| count).sum();
        if figures.unassigned > without_room {
            writeln!(f, "nobody    can hold {} partitions", figures.unassigned - without_room)?;
        }
        if without_room > 0 {
            writeln!(f, "no room   for {without_room} partitions: {}", ByPriority(&self.without_room))?;
        }
        let end = if self.another_round { "another round is needed" } else { "no other round is needed" };
        writeln!(f, "then      {end}")?;
        self.write_moves(f)
    }
}

impl Plan {
    fn write_moves(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if f.alternate() { self.moves.len() } else { SHOWN_MOVES.min(self.moves.len()) };
        for Move { partition, from, to, reason, fit } in &self.moves[..shown] {
            let id = &self.partitions.as_slice()[*partition].id;
            write!(f, "  {id}: {} → {} ({reason}", Worker(*from), Worker(*to))?;
            match fit {
                Some(Fit::Preferred) if *reason == MoveReason::Preferred => writeln!(f, ")")?,
                Some(fit) => writeln!(f, ", {fit})")?,
                None => writeln!(f, ")")?,
            }
        }
        match self.moves.len() - shown {
            0 => Ok(()),
            more => writeln!(f, "  … and {more} more"),
        }
    }
}

impl MoveReason {
    const ALL: [Self; 9] = [
        Self::New,
        Self::Orphaned,
        Self::Drain,
        Self::Pinned,
        Self::Label,
        Self::Preferred,
        Self::Apart,
        Self::Room,
        Self::Balance,
    ];
}

impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Orphaned => "orphaned",
            Self::Drain => "drain",
            Self::Pinned => "pinned",
            Self::Label => "label",
            Self::Preferred => "preferred",
            Self::Apart => "apart",
            Self::Room => "no room",
            Self::Balance => "balance",
        })
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preferred => "preferred",
            Self::Spilled => "spilled",
        })
    }
}

/// How many partitions of which priority.
struct ByPriority<'a>(&'a [(u8, usize)]);

impl fmt::Display for ByPriority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (priority, count)) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{count} of priority {priority}")?;
        }
        Ok(())
    }
}

struct Worker(Option<Slot>);

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(slot) => write!(f, "worker-{slot}"),
            None => f.write_str("nobody"),
        }
    }
}

/// A number of thousandths as a decimal fraction.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::super::testing::Group;
    use super::super::{Balanced, Step};

    #[test]
    fn an_operator_can_read_it() {
        let mut group = Group::new(3, 12);
        group.rounds(&Balanced);
        group.workers.pop();
        group.workers[0].draining = true;
        group.add_workers(2);
        group.options.step = Step::Planned;
        group.options.move_budget_percent = 1;
        group.require(0, "zone", "b");
        insta::assert_snapshot!(group.plan(&Balanced).to_string());
    }
}
