//! A plan as an operator reads it.

use core::fmt;

use super::{Move, MoveReason, Plan};
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
        writeln!(f, "budget    {} of {} used", figures.staying_moved, figures.budget)?;
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
        if figures.unassigned > 0 {
            writeln!(f, "nobody    can hold {} partitions", figures.unassigned)?;
        }
        let end = if self.another_round { "another round is needed" } else { "no other round is needed" };
        writeln!(f, "then      {end}")?;
        self.write_moves(f)
    }
}

impl Plan {
    fn write_moves(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if f.alternate() { self.moves.len() } else { SHOWN_MOVES.min(self.moves.len()) };
        for Move { partition, from, to, reason } in &self.moves[..shown] {
            let id = &self.partitions.as_slice()[*partition].id;
            writeln!(f, "  {id}: {} → {} ({reason})", Worker(*from), Worker(*to))?;
        }
        match self.moves.len() - shown {
            0 => Ok(()),
            more => writeln!(f, "  … and {more} more"),
        }
    }
}

impl MoveReason {
    const ALL: [Self; 6] = [Self::New, Self::Orphaned, Self::Drain, Self::Pinned, Self::Label, Self::Balance];
}

impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Orphaned => "orphaned",
            Self::Drain => "drain",
            Self::Pinned => "pinned",
            Self::Label => "label",
            Self::Balance => "balance",
        })
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
