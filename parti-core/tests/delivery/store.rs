//! A stream and a bucket of positions in memory, and workers that deliver from them.
#![allow(dead_code)] // each engine has stories of its own

#[path = "store/durables.rs"]
mod durables;

use std::collections::{BTreeMap, VecDeque};

use self::durables::Durables;
use parti_core::delivery::CallId;
use parti_core::delivery::{
    Answer, Delivery, DeliveryConfig, Ends, Event, Fetched, Handed, Message, Notice, Order, Ownership, PositionRecord,
    Request, Sequence, StopReason, StoredPosition, StreamState, TailNews, Timestamp,
};
use parti_core::{Duration, Generation, Instant, Outcome, PartitionId, Revision, Token};

/// What the stream has of one message.
#[derive(Clone, Debug)]
struct Stored {
    sequence: u64,
    partition: PartitionId,
    at: u64,
}

/// One worker: its delivery, and what the application was told.
pub(crate) struct Member {
    pub(crate) delivery: Delivery<u64>,
    pub(crate) handed: Vec<(String, u64, u32)>,
    pub(crate) let_go: Vec<String>,
    pub(crate) stopped: Vec<(String, StopReason)>,
    pub(crate) notices: Vec<Notice>,
    /// What it was handed and has not finished, where it does not finish by itself.
    pub(crate) in_hand: BTreeMap<String, VecDeque<Handed<u64>>>,
    /// Finishes each message as soon as it is handed, and asks for the next.
    pub(crate) is_quick: bool,
    tail: Option<Tail>,
    /// Answers that are held back.
    pub(crate) delayed: Vec<(CallId, Answer<u64>)>,
}

struct Tail {
    id: CallId,
    next: u64,
    partitions: Vec<PartitionId>,
}

/// The stream, the positions and the workers.
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(crate) struct World {
    pub(crate) now: Instant,
    stream: Vec<Stored>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) created: u64,
    pub(crate) positions: BTreeMap<String, (u64, PositionRecord)>,
    revision: u64,
    pub(crate) members: Vec<Member>,
    /// How many of the newest messages a replica that is read does not have yet.
    pub(crate) replica_lag: u64,
    pub(crate) dead: Vec<(String, u64, Option<String>)>,
    /// What becomes of the next write of a position: it is done, but the answer is lost.
    pub(crate) lose_answers: bool,
    /// The next write of a position gets no answer, and is done only after so many readings.
    pub(crate) delay_next_write: Option<u32>,
    /// The write that is delayed, and how many readings come before it.
    late_write: Option<(u32, PartitionId, Option<Revision>, PositionRecord)>,
    /// Holds back what the stream answers for itself.
    pub(crate) hold_looks: bool,
    /// Holds back the answers to writes of positions.
    pub(crate) hold_writes: bool,
    pub(crate) tails_are_deaf: bool,
    /// Before the stream is looked at the next time, it is made anew, with other messages under the same numbers.
    pub(crate) is_to_be_made_anew: bool,
    pub(crate) durables: Durables,
    /// The application stores positions as well.
    own_positions: bool,
    /// How many writes of positions delivery has asked for.
    pub(crate) writes: u32,
}

pub(crate) fn id(name: &str) -> PartitionId {
    PartitionId::new(name).expect("a valid id")
}

pub(crate) fn token(epoch: u64) -> Token {
    Token { epoch: Generation::new(epoch), ..Token::default() }
}

impl World {
    pub(crate) fn new(members: usize, config: &DeliveryConfig) -> Self {
        let member = || Member {
            delivery: Delivery::new(config.clone(), Instant::ORIGIN).expect("valid settings"),
            handed: Vec::new(),
            let_go: Vec::new(),
            stopped: Vec::new(),
            notices: Vec::new(),
            in_hand: BTreeMap::new(),
            is_quick: true,
            tail: None,
            delayed: Vec::new(),
        };
        Self {
            now: Instant::ORIGIN,
            stream: Vec::new(),
            first: 1,
            last: 0,
            created: 5,
            positions: BTreeMap::new(),
            revision: 0,
            members: (0..members).map(|_| member()).collect(),
            replica_lag: 0,
            dead: Vec::new(),
            lose_answers: false,
            delay_next_write: None,
            late_write: None,
            hold_looks: false,
            hold_writes: false,
            tails_are_deaf: false,
            is_to_be_made_anew: false,
            durables: Durables::default(),
            own_positions: config.own_positions,
            writes: 0,
        }
    }

    /// Stores one message of each of these partitions.
    pub(crate) fn publish(&mut self, partitions: &[&str]) {
        for name in partitions {
            self.last += 1;
            self.stream.push(Stored { sequence: self.last, partition: id(name), at: 1_000 + self.last });
        }
        self.settle();
    }

    /// The stream's limits remove everything before this number.
    pub(crate) fn remove_before(&mut self, first: u64) {
        self.first = first;
        self.stream.retain(|stored| stored.sequence >= first);
    }

    /// The store loses everything after this number.
    pub(crate) fn lose_after(&mut self, last: u64) {
        self.last = last;
        self.stream.retain(|stored| stored.sequence <= last);
    }

    pub(crate) fn acquire(&mut self, member: usize, name: &str, epoch: u64) {
        self.tell(member, Event::Ownership(Ownership::Acquired { partition: id(name), token: token(epoch) }));
        self.want(member, name, 1);
    }

    pub(crate) fn release(&mut self, member: usize, name: &str, epoch: u64) {
        self.tell(member, Event::Ownership(Ownership::Releasing { partition: id(name), token: token(epoch) }));
    }

    pub(crate) fn leave(&mut self, member: usize, name: &str) {
        self.tell(member, Event::Application(Request::Leave { partition: id(name) }));
    }

    pub(crate) fn want(&mut self, member: usize, name: &str, most: u32) {
        self.tell(member, Event::Application(Request::Want { partition: id(name), most }));
    }

    pub(crate) fn finish(&mut self, member: usize, name: &str, through: u64) {
        let through = Sequence::new(through);
        if let Some(in_hand) = self.members[member].in_hand.get_mut(name) {
            in_hand.retain(|handed| handed.message.sequence > through);
        }
        self.tell(member, Event::Application(Request::Finish { partition: id(name), through }));
    }

    /// Hands back everything that is not finished.
    pub(crate) fn give_back(&mut self, member: usize, name: &str, failed: Option<&str>) {
        let in_hand = self.members[member].in_hand.remove(name).unwrap_or_default();
        let messages = in_hand.into_iter().map(|handed| handed.message).collect();
        let request = Request::Return { partition: id(name), messages, failed: failed.map(Into::into) };
        self.tell(member, Event::Application(request));
    }

    pub(crate) fn tell(&mut self, member: usize, event: Event<u64>) {
        let now = self.now;
        self.members[member].delivery.handle(now, event);
        self.settle();
    }

    /// The answers that were held back come now.
    pub(crate) fn answer_delayed(&mut self, member: usize) {
        (self.hold_writes, self.hold_looks) = (false, false);
        for (call, answer) in std::mem::take(&mut self.members[member].delayed) {
            self.tell(member, Event::Answer { call, answer });
        }
    }

    /// Lets time pass, from one deadline to the next.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let next = self.members.iter().filter_map(|member| member.delivery.poll_timeout()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            for member in 0..self.members.len() {
                // A tail is heard from as long as it is there.
                if let (Some(tail), false) = (&self.members[member].tail, self.tails_are_deaf) {
                    let alive = Event::Tail { tail: tail.id, news: TailNews::Alive };
                    self.members[member].delivery.handle(self.now, alive);
                }
                self.tell(member, Event::Timeout);
            }
        }
        self.now = end;
        self.settle();
    }

    /// Carries out orders and shows what is stored, until there is nothing to do.
    pub(crate) fn settle(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for member in 0..self.members.len() {
                while let Some(order) = self.members[member].delivery.poll_order() {
                    is_busy = true;
                    self.carry_out(member, order);
                }
                is_busy |= self.show_tail(member) || self.show_pulled(member);
            }
        }
    }

    fn show_tail(&mut self, member: usize) -> bool {
        let Some(tail) = self.members[member].tail.as_mut().filter(|_| !self.tails_are_deaf) else { return false };
        let Some(stored) = self.stream.iter().find(|stored| stored.sequence >= tail.next) else { return false };
        tail.next = stored.sequence + 1;
        let news = if tail.partitions.contains(&stored.partition) {
            TailNews::Message { partition: stored.partition.clone(), message: message(stored) }
        } else {
            TailNews::Passed { sequence: Sequence::new(stored.sequence) }
        };
        let event = Event::Tail { tail: tail.id, news };
        self.members[member].delivery.handle(self.now, event);
        true
    }

    fn carry_out(&mut self, member: usize, order: Order<u64>) {
        let replica = self.last.saturating_sub(self.replica_lag);
        let (call, answer) = match order {
            Order::ReadPosition { call, partition } => {
                self.let_late_write_come_closer();
                (call, self.read(&partition))
            }
            Order::WritePosition { call, partition, expected, record, claims } => {
                self.writes += 1;
                let (expected, record) = self.beside_the_application(&partition, expected, record, claims);
                let answer = self.answer_to_write(partition, expected, record);
                if self.hold_writes {
                    self.members[member].delayed.push((call, answer));
                    return;
                }
                (call, answer)
            }
            Order::Inspect { call } if self.hold_looks => {
                let answer = Answer::Stream(self.inspect());
                self.members[member].delayed.push((call, answer));
                return;
            }
            Order::Inspect { call } => (call, Answer::Stream(self.inspect())),
            Order::Ask { call, partitions } => {
                let last = |partition: &PartitionId| {
                    let is_it = |stored: &&Stored| stored.partition == *partition && stored.sequence <= replica;
                    self.stream.iter().rev().find(is_it).map(|stored| Sequence::new(stored.sequence))
                };
                let last =
                    partitions.iter().filter_map(|partition| Some((partition.clone(), last(partition)?))).collect();
                (call, Answer::Ends(Ends { last, through: Sequence::new(replica) }))
            }
            Order::Fetch { call, partition, from, most, .. } => {
                let is_it = |stored: &&Stored| {
                    stored.partition == partition && stored.sequence >= from.value() && stored.sequence <= replica
                };
                let messages: Vec<_> = self.stream.iter().filter(is_it).take(most as usize).map(message).collect();
                let pending = (self.stream.iter().filter(is_it).count() - messages.len()) as u64;
                (call, Answer::Fetched(Fetched { messages, pending }))
            }
            Order::OpenTail { call, from, partitions } => {
                self.members[member].tail = Some(Tail { id: call, next: from.value(), partitions });
                (call, Answer::TailOpened)
            }
            Order::CloseTail { tail } => {
                let open = &mut self.members[member].tail;
                *open = open.take().filter(|open| open.id != tail);
                return;
            }
            Order::FindConsumer { .. }
            | Order::CreateConsumer { .. }
            | Order::RestoreConsumer { .. }
            | Order::Pull { .. }
            | Order::EndPull { .. }
            | Order::Acknowledge { .. }
            | Order::Extend { .. } => match self.carry_out_for_durable(member, order) {
                Some(answered) => answered,
                None => return,
            },
            Order::Hand { partition, messages, .. } => return self.hand(member, &partition, messages),
            Order::DeadLetter { call, partition, message, reason, .. } => {
                self.dead.push((partition.to_string(), message.sequence.value(), reason));
                (call, Answer::Buried)
            }
            Order::LetGo { partition, .. } => return self.members[member].let_go.push(partition.to_string()),
            Order::Stop { partition, reason, .. } => {
                return self.members[member].stopped.push((partition.to_string(), reason));
            }
            Order::Notice(notice) => return self.members[member].notices.push(notice),
        };
        self.members[member].delivery.handle(self.now, Event::Answer { call, answer });
    }

    fn hand(&mut self, member: usize, partition: &PartitionId, messages: Vec<Handed<u64>>) {
        let is_quick = self.members[member].is_quick;
        let name = partition.to_string();
        let told = &mut self.members[member];
        for handed in &messages {
            told.handed.push((name.clone(), handed.message.sequence.value(), handed.tries));
        }
        if is_quick {
            let through = messages.last().expect("at least one").message.sequence;
            for request in [
                Request::Finish { partition: partition.clone(), through },
                Request::Want { partition: partition.clone(), most: 1 },
            ] {
                told.delivery.handle(self.now, Event::Application(request));
            }
        } else {
            told.in_hand.entry(name).or_default().extend(messages);
        }
    }

    fn read(&self, partition: &PartitionId) -> Answer<u64> {
        let found = self.positions.get(partition.as_str());
        Answer::Position(found.map_or(StoredPosition::Missing, |(revision, record)| {
            StoredPosition::Found {
                record: record.clone(),
                revision: Revision::new(*revision),
                at: self
                    .stream
                    .iter()
                    .find(|stored| stored.sequence == record.seq.value())
                    .map(|stored| Timestamp::new(stored.at)),
            }
        }))
    }

    /// What a write comes to where the application stores positions as well.
    fn beside_the_application(
        &self,
        partition: &PartitionId,
        expected: Option<Revision>,
        record: PositionRecord,
        claims: bool,
    ) -> (Option<Revision>, PositionRecord) {
        let of_own = |(_, stored): &&(u64, PositionRecord)| {
            let is_own = stored.token == record.token && stored.created == record.created;
            self.own_positions && !claims && stored.open && is_own
        };
        match self.positions.get(partition.as_str()).filter(of_own) {
            None => (expected, record),
            Some((revision, stored)) => {
                let (seq, at) = (stored.seq, stored.at).max((record.seq, record.at));
                (Some(Revision::new(*revision)), PositionRecord { seq, at, through: record.through.max(seq), ..record })
            }
        }
    }

    /// The application stores that it has finished a message, with its effect. Returns whether it could.
    pub(crate) fn store_effect(&mut self, name: &str, epoch: u64, sequence: u64) -> bool {
        self.store_effect_of(name, epoch, self.created, sequence)
    }

    /// The same, of a message of the stream that was `created` then.
    pub(crate) fn store_effect_of(&mut self, name: &str, epoch: u64, created: u64, sequence: u64) -> bool {
        let at = self.stream.iter().find(|stored| stored.sequence == sequence).map_or(0, |stored| stored.at);
        let Some((revision, stored)) = self.positions.get_mut(name) else { return false };
        let is_claim = (stored.token, stored.created) == (token(epoch), Timestamp::new(created));
        let may = is_claim && stored.seq.value() < sequence;
        if may {
            self.revision += 1;
            (stored.seq, stored.at, *revision) = (Sequence::new(sequence), Timestamp::new(at), self.revision);
            stored.through = stored.through.max(stored.seq);
        }
        may
    }

    fn write(&mut self, partition: &PartitionId, expected: Option<Revision>, record: PositionRecord) -> Outcome {
        let stored = self.positions.get(partition.as_str()).map(|(revision, _)| Revision::new(*revision));
        if stored != expected {
            return Outcome::Conflict;
        }
        self.revision += 1;
        self.positions.insert(partition.to_string(), (self.revision, record));
        Outcome::Committed(Revision::new(self.revision))
    }

    fn inspect(&mut self) -> StreamState {
        if std::mem::take(&mut self.is_to_be_made_anew) {
            self.created += 1;
            self.stream.iter_mut().for_each(|stored| stored.at += 10_000);
        }
        let (first, last) = (Sequence::new(self.first), Sequence::new(self.last));
        StreamState { created: Timestamp::new(self.created), first, last }
    }

    fn answer_to_write(
        &mut self,
        partition: PartitionId,
        expected: Option<Revision>,
        record: PositionRecord,
    ) -> Answer<u64> {
        if let Some(reads) = self.delay_next_write.take() {
            self.late_write = Some((reads, partition, expected, record));
            return Answer::Written(Outcome::Unknown);
        }
        let outcome = self.write(&partition, expected, record);
        Answer::Written(if std::mem::take(&mut self.lose_answers) { Outcome::Unknown } else { outcome })
    }

    fn let_late_write_come_closer(&mut self) {
        match self.late_write.take() {
            Some((0, partition, expected, record)) => {
                let outcome = self.write(&partition, expected, record);
                assert!(matches!(outcome, Outcome::Committed(_)), "it was overtaken");
            }
            late => self.late_write = late.map(|(reads, of, expected, record)| (reads - 1, of, expected, record)),
        }
    }

    /// What a worker was handed of a partition.
    pub(crate) fn handed(&self, member: usize, name: &str) -> Vec<u64> {
        let of_it = self.members[member].handed.iter().filter(|(partition, _, _)| partition == name);
        of_it.map(|(_, sequence, _)| *sequence).collect()
    }

    /// The last message of a partition that is stored as finished.
    pub(crate) fn stored(&self, name: &str) -> u64 {
        self.positions[name].1.seq.value()
    }

    /// The process of a worker ends: it is forgotten with all that it knew.
    pub(crate) fn kill(&mut self, member: usize, config: &DeliveryConfig) {
        self.durables.drop_pulls_of(member);
        let fresh = Self::new(1, config).members.pop().expect("one member");
        self.members[member] = fresh;
    }
}

fn message(stored: &Stored) -> Message<u64> {
    Message {
        sequence: Sequence::new(stored.sequence),
        timestamp: Timestamp::new(stored.at),
        bytes: 10,
        body: stored.sequence,
    }
}
