//! What of one partition is in the application's hands.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::inbox::Inbox;
use super::message::{Handed, Message};
use super::order::{Notice, Order, Orders};
use super::position::Failed;
use super::progress::Progress;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use super::solitude::Solitude;
use crate::ids::{CallId, Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::{Planted, PlantedBug};
use crate::time::Instant;

/// The messages that the application was handed and has not finished.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// For how many messages the application waits.
    wanted: u32,
    /// What it was handed, in order.
    handed: VecDeque<(Sequence, Timestamp)>,
    /// Nothing is handed out before this instant: the first message has failed.
    not_before: Instant,
    /// Why the first message failed the last time.
    reason: Option<String>,
    care: Care,
    /// How many messages behind the first one may have ended a process as well: that is counted for each of them in turn.
    suspects: u32,
    /// Whether the first message has its last try, or waits for it, with nothing else in the worker's hands.
    is_last_try: bool,
    /// What was finished in its last try: as long as that is not stored, it could be counted once more.
    cleared: Option<Sequence>,
    /// The dead letter on its way.
    burying: Option<(CallId, Sequence, Timestamp)>,
    told_unfinished: bool,
}

/// Whether the first message may have ended the process that had the partition before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// The partition was let go in good order, or its first message was finished since.
    None,
    /// It was not: the first message is counted as tried, and that is stored, before it is handed out.
    First,
    /// This message was counted before it was handed out.
    Counted(Sequence),
}

impl Work {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            wanted: 0,
            handed: VecDeque::new(),
            not_before: now,
            reason: None,
            care: Care::None,
            suspects: 0,
            is_last_try: false,
            cleared: None,
            burying: None,
            told_unfinished: false,
        }
    }

    /// The hold before has not let the partition go in good order; nor, if there are `suspects`, has the one before that,
    /// at the same position. So it may be one of these that ends them, behind messages that were finished each time and
    /// not stored: until they are over, it is stored before each of them which one is tried.
    pub(super) fn take_care(&mut self, suspects: u32) {
        (self.care, self.suspects) = (Care::First, suspects);
    }

    /// The first message that is not finished, if the application or the dead letters have it.
    pub(super) fn first_unfinished(&self) -> Option<Sequence> {
        self.first_handed().or(self.burying.map(|(_, sequence, _)| sequence))
    }

    /// The first message that the application has and has not finished.
    pub(super) fn first_handed(&self) -> Option<Sequence> {
        self.handed.front().map(|(sequence, _)| *sequence)
    }

    /// When the first of them was stored.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let handed = self.handed.front().map(|(_, timestamp)| *timestamp);
        handed.or(self.burying.map(|(_, _, timestamp)| timestamp))
    }

    /// Whether the application or the dead letters have this message.
    pub(super) fn has(&self, sequence: Sequence, timestamp: Timestamp) -> bool {
        let burying = self.burying.map(|(_, sequence, timestamp)| (sequence, timestamp));
        burying == Some((sequence, timestamp)) || self.handed.contains(&(sequence, timestamp))
    }

    /// What the application has up to this message, in order.
    pub(super) fn handed_through(&self, through: Sequence) -> impl Iterator<Item = (Sequence, Timestamp)> + '_ {
        self.handed.iter().copied().take_while(move |(handed, _)| *handed <= through)
    }

    /// The message whose dead letter is on its way by this call.
    pub(super) fn burying(&self, call: CallId) -> Option<(Sequence, Timestamp)> {
        self.burying.filter(|(burying, _, _)| *burying == call).map(|(_, sequence, timestamp)| (sequence, timestamp))
    }

    /// Whether the first message has its last try, or waits for it.
    pub(super) fn is_last_try(&self) -> bool {
        self.is_last_try
    }

    /// Whether a message was finished in its last try, and it is `stored` still that it was tried.
    pub(super) fn is_clearing(&self, stored: Option<Failed>) -> bool {
        stored.is_some_and(|failed| self.cleared == Some(failed.seq))
    }

    /// How many messages the application has that are not finished.
    pub(super) fn unfinished(&self) -> usize {
        self.handed.len()
    }

    /// The same, with one that was counted and is about to be handed out: should the process end meanwhile, it is blamed too.
    pub(super) fn in_hand(&self) -> usize {
        self.handed.len().max(usize::from(matches!(self.care, Care::Counted(_))))
    }

    /// Whether a dead letter is on its way.
    pub(super) fn is_burying(&self) -> bool {
        self.burying.is_some()
    }

    pub(super) fn observe_want(&mut self, most: u32) {
        self.wanted = most;
    }

    pub(super) fn observe_finished(&mut self, now: Instant, through: Sequence, progress: &mut Progress) {
        let mut last = None;
        let mut count = 0;
        while let Some((sequence, timestamp)) = self.handed.front().copied().filter(|(handed, _)| *handed <= through) {
            self.handed.pop_front();
            last = Some((sequence, timestamp));
            count += 1;
        }
        if let Some((sequence, timestamp)) = last {
            self.told_unfinished = false;
            if matches!(self.care, Care::Counted(_)) {
                // It is cleared of what it was counted for.
                progress.store_at_once();
            }
            if self.is_last_try {
                self.cleared = Some(sequence);
            }
            self.first_is_over();
            progress.observe_finished(now, sequence, timestamp, count);
        }
    }

    /// Messages come back that are not finished: the last ones that were handed out. Returns what people should hear.
    pub(super) fn observe_returned<M>(
        &mut self,
        scope: Scope<'_>,
        partition: &PartitionId,
        messages: Vec<Message<M>>,
        failed: Option<String>,
        inbox: &mut Inbox<M>,
        progress: &mut Progress,
    ) -> Option<Notice> {
        let Scope { now, config, .. } = scope;
        let first = messages.first()?.sequence;
        let kept = self.handed.iter().take_while(|(sequence, _)| *sequence < first).count();
        let is_the_rest = self
            .handed
            .iter()
            .skip(kept)
            .map(|(sequence, _)| *sequence)
            .eq(messages.iter().map(|message| message.sequence));
        if !is_the_rest {
            // Not what was handed out last: to take it would change the order.
            return None;
        }
        self.handed.truncate(kept);
        if !scope.has(PlantedBug::ForgetReturned) {
            inbox.put_back(messages);
        }
        let reason = failed?;
        let times = match self.care {
            // It was counted before it was tried.
            Care::Counted(sequence) if sequence == first => progress.times(first),
            Care::Counted(_) | Care::None | Care::First => progress.observe_failed(now, first),
        };
        (self.care, self.is_last_try) = (Care::None, false);
        self.not_before = now + config.back_off_after(times);
        self.reason = Some(reason.clone());
        Some(Notice::Failed { partition: partition.clone(), sequence: first, times, reason })
    }

    /// A message that came back is finished.
    pub(super) fn observe_over(
        &mut self,
        now: Instant,
        sequence: Sequence,
        timestamp: Timestamp,
        progress: &mut Progress,
    ) {
        self.not_before = now;
        self.first_is_over();
        progress.observe_finished(now, sequence, timestamp, 1);
    }

    /// The dead letter is stored: the message is finished.
    pub(super) fn observe_buried(&mut self, now: Instant, call: CallId, progress: &mut Progress) {
        if let Some((_, sequence, timestamp)) = self.burying.filter(|(burying, _, _)| *burying == call) {
            self.burying = None;
            self.first_is_over();
            progress.observe_buried(now, sequence, timestamp);
        }
    }

    /// It is not known to be stored: it is tried again.
    pub(super) fn observe_not_buried<M>(
        &mut self,
        now: Instant,
        call: CallId,
        message: Message<M>,
        inbox: &mut Inbox<M>,
        config: &DeliveryConfig,
    ) {
        if self.burying.is_some_and(|(burying, _, _)| burying == call) {
            self.burying = None;
            self.not_before = now + config.retry;
            inbox.put_back(alloc::vec![message]);
        }
    }

    /// Hands out what may be handed out, or gives up what has failed too often.
    ///
    /// The lowest unfinished message comes first, always: while one waits or is given up, none behind it is handed out.
    pub(super) fn decide<M>(
        &mut self,
        at: &At<'_>,
        solitude: &mut Solitude,
        inbox: &mut Inbox<M>,
        progress: &mut Progress,
        orders: &mut Orders<M>,
    ) {
        let Some(front) = inbox.front() else { return };
        if self.burying.is_some() || at.now < self.not_before {
            return;
        }
        let (sequence, timestamp) = (front.sequence, front.timestamp);
        let tries = progress.times(sequence);
        let is_counted = self.care == Care::Counted(sequence);
        // One that was counted in advance has its try first.
        if self.handed.is_empty() && at.config.dead_letters && tries >= at.config.max_tries && !is_counted {
            let reason = self.reason.take();
            if let Some(message) = inbox.take(1).next() {
                let call = orders.call_for(at.partition, |call, partition| Order::DeadLetter {
                    call,
                    partition,
                    message,
                    tries,
                    reason,
                });
                self.burying = Some((call, sequence, timestamp));
            }
            return;
        }
        if self.wanted == 0 {
            return;
        }
        if !self.may_hand(at, solitude, tries) {
            return;
        }
        if self.care == Care::First {
            // If this message ends the process, the next owner finds that it was tried.
            progress.observe_failed(at.now, sequence);
            progress.store_at_once();
            self.care = Care::Counted(sequence);
        }
        let is_counted = self.care == Care::Counted(sequence);
        if is_counted && at.stored_failed != progress.failed() && !at.planted.has(PlantedBug::HandUncounted) {
            return; // The write that says so is on its way, or is to be sent.
        }
        let is_suspect = is_counted || tries > 0;
        if is_suspect && !self.handed.is_empty() {
            return; // It is tried alone.
        }
        self.hand(at, if is_suspect { 1 } else { self.wanted as usize }, tries, inbox, orders);
        if at.planted.has(PlantedBug::CommitBeforeWork)
            && let Some((sequence, timestamp)) = self.handed.back().copied()
        {
            progress.observe_finished(at.now, sequence, timestamp, 1);
            self.handed.clear();
        }
    }

    /// Whether something may be handed out, as far as last tries go.
    fn may_hand(&mut self, at: &At<'_>, solitude: &mut Solitude, tries: u32) -> bool {
        // Others wait for one that is counted, be it that it has its last try: it goes on.
        if at.planted.has(PlantedBug::TryAmongOthers) || matches!(self.care, Care::Counted(_)) {
            return true;
        }
        // With one try only there is none before the last one that says whom to suspect.
        let most = at.config.max_tries.max(2);
        self.is_last_try = self.care == Care::First && at.config.dead_letters && tries + 1 >= most;
        if self.is_last_try {
            solitude.begin(at.now, at.partition, at.in_hand_elsewhere)
        } else {
            solitude.allows(at.partition)
        }
    }

    fn hand<M>(&mut self, at: &At<'_>, most: usize, tries: u32, inbox: &mut Inbox<M>, orders: &mut Orders<M>) {
        let room = (at.config.max_unfinished as usize).saturating_sub(self.handed.len());
        if room == 0 {
            if !self.told_unfinished {
                self.told_unfinished = true;
                let count = at.config.max_unfinished;
                orders.notice(Notice::TooManyUnfinished { partition: at.partition.clone(), count });
            }
            return;
        }
        let mut tries = tries.saturating_sub(u32::from(matches!(self.care, Care::Counted(_))));
        let most = if at.planted.has(PlantedBug::HandUnasked) { room } else { most };
        let handed = |message| Handed { message, tries: core::mem::take(&mut tries), created: at.created };
        let messages: Vec<_> = inbox.take(most.min(room)).map(handed).collect();
        self.handed.extend(messages.iter().map(|handed| (handed.message.sequence, handed.message.timestamp)));
        self.wanted = 0;
        orders.push(Order::Hand { partition: at.partition.clone(), token: at.token, messages });
    }

    /// When it is to be asked again, if the first message waits.
    pub(super) fn deadline<M>(&self, now: Instant, inbox: &Inbox<M>) -> Option<Instant> {
        (now < self.not_before && inbox.front().is_some()).then_some(self.not_before)
    }

    /// Nothing is handed out any more: the application is done. What was counted before it was tried has not ended the process.
    pub(super) fn leave(&mut self, progress: &mut Progress) {
        if let Care::Counted(sequence) = self.care {
            progress.take_back(sequence);
            self.care = Care::None;
        }
        self.handed.clear();
        (self.wanted, self.is_last_try) = (0, false);
    }

    /// The first message is finished: those that follow were not tried by the owner before, as far as is known, unless
    /// there are suspects among them.
    fn first_is_over(&mut self) {
        self.care = if self.suspects > 0 { Care::First } else { Care::None };
        self.suspects = self.suspects.saturating_sub(1);
        (self.reason, self.is_last_try) = (None, false);
    }
}

/// For which partition it is decided, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) now: Instant,
    pub(super) partition: &'a PartitionId,
    pub(super) token: Token,
    pub(super) config: &'a DeliveryConfig,
    pub(super) planted: Planted,
    /// How many messages of other partitions the application has, as far as anybody waits for that.
    pub(super) in_hand_elsewhere: usize,
    /// When the stream was made, as far as the position goes.
    pub(super) created: Timestamp,
    /// The failure that is known to be stored.
    pub(super) stored_failed: Option<Failed>,
}
