//! Messages follow the assignment: which messages of a stream a worker may work on, and which of them are finished.
//!
//! Each partition is one subject of a stream. [`Delivery`] takes what its worker decides about partitions, what was
//! read of the stream and what the application has finished, and says what is to be read, handed out and stored. Like
//! [`Worker`](crate::Worker) it has no IO and no clock: it is fed an [`Event`] and the time, and asks by [`Order`]s.
//!
//! How it reads is decided by what the stream keeps. [`Engine::Log`] reads one that keeps its messages until limits remove
//! them, and keeps positions of its own. [`Engine::Queue`] has a durable consumer for each partition of a stream that
//! removes what is acknowledged: a work queue, or one with interest.
//!
//! # What holds
//!
//! | | |
//! | --- | --- |
//! | D1 | Every stored message of an owned partition is handed out at least once, in stream order. What the stream's limits removed unread is counted and said |
//! | D2 | The lowest unfinished message of a partition comes first, across moves, crashes and suspensions |
//! | D3 | One message of a partition at a time is with the application, unless it asks for more; and by the worker's own guarantee with one worker |
//! | D4 | A planned move repeats nothing. A crash repeats what was finished since the last write of the position |
//! | D5 | The position is written on the condition of the revision that was read, under the token of the hold. A former owner's write is refused, and no position moves back by itself |
//! | D6 | One tail for each worker, and one small write for each active partition and commit interval |
//! | D7 | What is held ready is bounded for each partition. A message that fails waits, and after some tries goes where dead letters go; other partitions do not wait for it |
//!
//! With a consumer for each partition, this differs:
//!
//! | | |
//! | --- | --- |
//! | D1 | A stream that has lost its newest messages gives their numbers again, which a consumer that had delivered them may pass over. So it is brought back to its floor where the stream is seen to end before what it has delivered |
//! | D2 | A new owner pulls only after the consumer was brought back to its floor, and again whenever a [`Place`] is missed: then somebody else was served in between |
//! | D4 | A planned move waits until everything finished is acknowledged. A crash repeats what was not |
//! | D5 | An acknowledgement is no fence: that of a former owner counts, also late. It is for a message that was finished, so nothing is skipped; but the next owner may finish that message as well. A sink that takes tokens tells them apart |
//! | D6 | One consumer for each partition, and a request for each message: some hundred partitions |
//!
//! # Why it holds
//!
//! *A position is a chain of conditional writes*, like a tenure (D5). A hold begins with a write under its own token on the
//! revision that it has read. From then on a former owner's write expects a revision that is in the past; when it reads again
//! it finds a greater token, and stops. Where the store has lost what tells tokens apart, it may find its own token: but nothing
//! that it wrote, so it stops all the same, and whoever began last has the position alone.
//!
//! *Whoever shows messages shows all of them* (D1, D2). A partition takes a message only at or above the number that it needs
//! next. A reading shows all that one replica has from there; a tail shows all from its opening on, and opens at the lowest
//! number that one of its partitions needs. Nothing joins a tail that runs: the end of a replica that lags is not the end of
//! the stream, and what lies between would be passed over.
//!
//! *An application may store positions by itself* ([`own_positions`](DeliveryConfig::own_positions)), each in one transaction with
//! the effect of a message, under the token that has claimed the partition, for the stream for which it was claimed, and only
//! forward: so each effect is there once, whoever else works on it. The claim depends on what was read, also on what the former
//! owner has stored since. Later writes, which remember what failed, leave the position where the application has brought it; but
//! where it is of a former life of the stream, whose numbers say nothing of this one, they depend on what was read, as a claim
//! does. What an application gives back it may have been refused, or have stored before it was interrupted: the position is read
//! again before anything more is handed out, and nothing is while another claim is stored.
//!
//! *What is not there may have been removed.* Where a reading or a new tail passes over numbers that the limits may have come
//! to, the stream is asked afterwards with what it begins. As long as the answer has not shown that it still had the first of
//! those numbers, nothing behind them is handed out or stored; else that is a gap, and is told.
//!
//! *A release waits for the last write* (D4). The worker hears that a partition was released when delivery lets it go: the
//! handler has left, and everything finished is stored. A release that takes too long, or a hold that has ended, waits for
//! nothing; what was finished since the last write is repeated then, as after a crash.
//!
//! *A message that ends its process is counted before it is tried* (D7). A claim that finds a position that was not let go in
//! good order counts one try for the message behind it, and stores that before it hands the message out, alone. Where the
//! position is found twice as it was left, one of those that followed may be the culprit, finished messages between them being
//! repeated each time: then each of them is counted in turn. A process that dies of one message has others in hand, which are
//! counted with it; so the last try of a message is made with nothing else in the worker's hands, for at most 10 s: whoever is
//! to blame is known then, and the others are finished. (With `max_tries` 1 there is no try before the last that says whom to
//! suspect: two deaths are enough.) Between that write and the handing out nobody can tell whether there was one: where a
//! process ends or a hold is lost just then, each time, a message is given up that was never begun.
//!
//! Assumed: the limits keep a message for longer than two looks at a quiet partition (`check_interval`) take; they remove the
//! oldest first, whatever its subject; and positions and the state of the stream are read from a leader.
//!
//! What cannot be known: a store that has lost positions makes the next owner repeat what they said; a write that depends on
//! what was read before such a loss fits where that revision is given again; the simulator drops it. A stream that has lost its newest messages gives their numbers
//! again: if it has come to the position again before anybody looks, it looks as it should unless the last finished message is
//! another one, and those of the new messages are skipped that have numbers which were read before. The invariants excuse
//! these and no others.
//!
//! # The loop
//!
//! Feed one event, drain the orders, wait for the next event or [`poll_timeout`](Delivery::poll_timeout). Here the
//! stream is a list of two messages of one partition, and answers come at once:
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use parti_core::delivery::{
//!     Answer, Delivery, DeliveryConfig, Ends, Event, Fetched, Message, Order, Ownership, Request, Sequence,
//!     StoredPosition, StreamState, Timestamp,
//! };
//! use parti_core::{Instant, Outcome, PartitionId, Revision, Token};
//!
//! let stream: Vec<Message<&str>> = [(1, "first"), (2, "second")]
//!     .map(|(number, body)| Message {
//!         sequence: Sequence::new(number),
//!         timestamp: Timestamp::new(1_000 + number),
//!         bytes: body.len(),
//!         body,
//!     })
//!     .to_vec();
//! let orders = PartitionId::new("orders")?;
//! let mut delivery = Delivery::new(DeliveryConfig::new("ORDERS"), Instant::ORIGIN)?;
//! let mut events = VecDeque::from([
//!     Event::Ownership(Ownership::Acquired { partition: orders.clone(), token: Token::default() }),
//!     Event::Application(Request::Want { partition: orders.clone(), most: 1 }),
//! ]);
//! let (mut seen, mut stored) = (Vec::new(), None);
//! while let Some(event) = events.pop_front() {
//!     delivery.handle(Instant::ORIGIN, event);
//!     while let Some(order) = delivery.poll_order() {
//!         let (call, answer) = match order {
//!             Order::ReadPosition { call, .. } => (call, Answer::Position(StoredPosition::Missing)),
//!             Order::WritePosition { call, record, .. } => {
//!                 stored = Some(record.seq);
//!                 (call, Answer::Written(Outcome::Committed(Revision::new(1))))
//!             }
//!             Order::Inspect { call } => {
//!                 let (created, first, last) = (Timestamp::new(1), Sequence::new(1), Sequence::new(2));
//!                 (call, Answer::Stream(StreamState { created, first, last }))
//!             }
//!             Order::Ask { call, .. } => {
//!                 let last = vec![(orders.clone(), Sequence::new(2))];
//!                 (call, Answer::Ends(Ends { last, through: Sequence::new(2) }))
//!             }
//!             Order::Fetch { call, from, .. } => {
//!                 let messages = stream.iter().filter(|message| message.sequence >= from).copied().collect();
//!                 (call, Answer::Fetched(Fetched { messages, pending: 0 }))
//!             }
//!             Order::OpenTail { call, .. } => (call, Answer::TailOpened),
//!             Order::Hand { partition, messages, .. } => {
//!                 for handed in messages {
//!                     seen.push(handed.message.body); // the work
//!                     let through = handed.message.sequence;
//!                     events.push_back(Event::Application(Request::Finish { partition: partition.clone(), through }));
//!                 }
//!                 let next = if seen.len() < 2 { Request::Want { partition, most: 1 } } else { Request::Leave { partition } };
//!                 events.push_back(Event::Application(next));
//!                 continue;
//!             }
//!             Order::LetGo { .. } => continue, // the guard of the partition may be dropped
//!             Order::CloseTail { .. } | Order::Notice(_) => continue,
//!             _ => unreachable!("nothing fails here, and no partition has a consumer of its own"),
//!         };
//!         events.push_back(Event::Answer { call, answer });
//!     }
//! }
//! assert_eq!((seen, stored), (vec!["first", "second"], Some(Sequence::new(2))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The contract
//!
//! 1. After each [`handle`](Delivery::handle), drain [`poll_order`](Delivery::poll_order) to `None`, then arm one
//!    timer at [`poll_timeout`](Delivery::poll_timeout). `handle` never fails, blocks or panics.
//! 2. Each order that has a call gets exactly one [`Answer`], within a time that the caller bounds. A write without a
//!    certain outcome is [`Outcome::Unknown`](crate::Outcome::Unknown).
//! 3. A [fetch](Order::Fetch) shows *all* that some replica has of the partition from the number that it names, in order,
//!    up to where it stops. A [tail](Order::OpenTail) shows all of its partitions from the number that it was opened at,
//!    in order, as long as it says anything. To show a message twice does no harm.
//! 4. An [answer](Answer::Ends) about last messages speaks of one moment of one replica.
//! 5. The position is read from the leader of its bucket, and so is the state of the stream.
//! 6. What the worker decides comes in its order: a hold ends before the next begins. Nothing is written while the
//!    worker has no right to act ([`Ownership::Suspended`]), and a guard is dropped only after [`Order::LetGo`] or
//!    [`Order::Stop`], or once its hold has ended anyway.
//! 7. The application [finishes](Request::Finish) or [returns](Request::Return) what it was handed, and
//!    [leaves](Request::Leave) in the end.

mod acks;
mod agenda;
mod any;
mod consumer;
mod durable;
mod event;
mod fit;
mod handler;
mod held;
mod hold;
mod inbox;
mod lanes;
mod log;
mod log_lane;
mod message;
mod order;
mod position;
mod progress;
mod queue;
mod queue_lane;
mod reads;
mod scope;
mod settings;
mod solitude;
mod status;
mod stream;
mod tails;
mod work;

pub use crate::ids::{CallId, Place, Sequence, Timestamp};
pub use any::Delivery;
pub use consumer::{ConsumerState, PullEnd, Pulled};
pub use event::{Answer, Ends, Event, Fetched, Ownership, Request, StoredPosition, StreamState, TailNews};
pub use handler::{Lost, PartitionMessage, PartitionMessages};
pub use message::{Handed, Message};
pub use order::{Misfit, Notice, Order, StopReason};
pub use position::{Failed, PositionRecord};
pub use settings::{DeliveryConfig, DeliveryConfigError, Engine, Policy, StartAt};
pub use status::LaneStatus;
