//! What operators want, as the store shows it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::ids::Revision;
use crate::member::doubt::Doubt;
use crate::stored::key::Control;
use crate::stored::record::ControlRecord;

/// The last that was seen under each `control.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wishes {
    wishes: BTreeMap<Control, Wish>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wish {
    seen: Seen,
    /// Whether it was shown since the last complete listing began.
    shown: bool,
    /// What was shown in its place since then: something older.
    older: Option<Seen>,
    /// Whether listings do not show it: they are stale, or the store has lost it.
    doubt: Doubt,
}

/// A write, and what it wants; nothing if it takes the wish back.
type Seen = (Revision, Option<Arc<ControlRecord>>);

impl Wishes {
    /// Takes in what a watch shows; true if that changes what is wanted.
    pub(crate) fn observe(&mut self, control: Control, revision: Revision, record: Option<Arc<ControlRecord>>) -> bool {
        match self.wishes.get_mut(&control) {
            Some(wish) if wish.seen.0 > revision => {
                wish.older = Some((revision, record));
                false
            }
            Some(wish) if wish.seen.0 == revision => {
                wish.shown = true;
                false
            }
            Some(_) | None => {
                let wish = Wish { seen: (revision, record), shown: true, older: None, doubt: Doubt::default() };
                self.wishes.insert(control, wish);
                true
            }
        }
    }

    /// A complete listing begins.
    pub(crate) fn begin_listing(&mut self) {
        for wish in self.wishes.values_mut() {
            (wish.shown, wish.older) = (false, None);
        }
    }

    /// A complete listing of the keys that `covers` names ends; true if that changes what is wanted. One listing may come
    /// from a replica that lags; what several in a row do not show, the store has lost.
    pub(crate) fn end_listing(&mut self, context: &Context, covers: impl Fn(Control) -> bool) -> bool {
        let mut changed = false;
        self.wishes.retain(|control, wish| {
            wish.doubt.observe_listing(!wish.shown && covers(*control));
            if !wish.doubt.is_certain(context) {
                return true;
            }
            changed = true;
            wish.doubt = Doubt::default();
            wish.older.take().map(|older| wish.seen = older).is_some()
        });
        changed
    }

    /// Whether the last listing has not shown all of them.
    pub(crate) fn are_doubtful(&self) -> bool {
        self.wishes.values().any(|wish| wish.doubt.is_raised())
    }

    /// The record of a wish, and the write that made it, if it holds.
    pub(crate) fn get(&self, control: Control) -> Option<(Revision, &ControlRecord)> {
        let (revision, record) = &self.wishes.get(&control)?.seen;
        Some((*revision, record.as_deref()?))
    }

    /// What is wanted now, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = Control> {
        self.wishes.iter().filter(|(_, wish)| wish.seen.1.is_some()).map(|(control, _)| *control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    const PAUSE: Control = Control::Pause;

    fn wish() -> Arc<ControlRecord> {
        Arc::new(ControlRecord::default())
    }

    #[test]
    fn what_one_listing_does_not_show_still_holds_and_what_three_do_not_is_lost() {
        let (context, mut wishes) = (Context::at(Instant::ORIGIN), Wishes::default());
        assert!(wishes.observe(PAUSE, Revision::new(7), Some(wish())));
        for _ in 1..3 {
            wishes.begin_listing();
            assert!(!wishes.end_listing(&context, |_| true));
        }
        assert!(wishes.get(PAUSE).is_some());
        wishes.begin_listing();
        assert!(wishes.end_listing(&context, |_| true));
        assert!(wishes.get(PAUSE).is_none());
    }

    #[test]
    fn a_listing_that_shows_it_ends_the_doubt() {
        let (context, mut wishes) = (Context::at(Instant::ORIGIN), Wishes::default());
        wishes.observe(PAUSE, Revision::new(7), Some(wish()));
        for listing in 0..12 {
            wishes.begin_listing();
            if listing % 3 == 0 {
                wishes.observe(PAUSE, Revision::new(7), Some(wish()));
            }
            assert!(!wishes.end_listing(&context, |_| true));
        }
        assert!(wishes.get(PAUSE).is_some());
    }

    #[test]
    fn what_is_shown_in_its_place_holds_instead() {
        let (context, mut wishes) = (Context::at(Instant::ORIGIN), Wishes::default());
        wishes.observe(PAUSE, Revision::new(7), None);
        for _ in 0..3 {
            assert!(wishes.get(PAUSE).is_none());
            wishes.begin_listing();
            wishes.observe(PAUSE, Revision::new(5), Some(wish()));
            wishes.end_listing(&context, |_| true);
        }
        assert_eq!(wishes.get(PAUSE).map(|(revision, _)| revision), Some(Revision::new(5)));
    }
}
