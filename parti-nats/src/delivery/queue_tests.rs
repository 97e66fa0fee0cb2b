//! The behaviours of durable consumers that the model of the simulator is held to, held against a real server.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{self, FromConsumer};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::{Client, Subject};
use parti_core::conformance::{
    INTEREST_BEHAVIOURS, PullName, PullShows, QUEUE_BEHAVIOURS, QueueBehaviour, QueueUnderTest,
};
use parti_core::delivery::{Answer, CallId, ConsumerState, Order, PullEnd, Pulled, Sequence, Timestamp};
use parti_core::{GroupName, PartitionId};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::durable::Durables;
use super::message::Body;
use super::pull::{self, News};
use super::template::Template;
use crate::server;
use crate::support::Server;

const STREAM: &str = "QUEUE";
/// How long a request waits for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long is waited for the answer to an acknowledgement that may have none.
const UNHEARD: Duration = Duration::from_secs(1);
/// The pause before something is tried again that a server was not ready for.
const AGAIN: Duration = Duration::from_millis(50);
/// How often that is tried.
const TRIES: u32 = 200;

/// A real stream, for the suite.
struct Real<'a> {
    runtime: &'a Runtime,
    url: &'a str,
    client: Client,
    context: jetstream::Context,
    config: stream::Config,
    durables: Durables,
    /// What the name of the consumer says.
    created: Timestamp,
    pulls: Vec<OpenPull>,
    /// How the first delivery of each message is acknowledged.
    replies: BTreeMap<Sequence, Subject>,
}

struct OpenPull {
    news: mpsc::Receiver<News>,
    shown: VecDeque<PullShows>,
    open: Option<oneshot::Sender<Infallible>>,
    /// A connection of its own.
    client: Client,
}

impl<'a> Real<'a> {
    fn new(runtime: &'a Runtime, url: &'a str, config: stream::Config) -> Self {
        let client = runtime.block_on(async_nats::connect(url)).expect("a connection");
        let context = jetstream::new(client.clone());
        let durables = durables(&client, TIMEOUT);
        let replies = BTreeMap::new();
        let created = Timestamp::new(1);
        let mut real = Self { runtime, url, client, context, config, durables, created, pulls: Vec::new(), replies };
        real.make();
        real
    }

    /// Makes the stream, as soon as the server is ready for it.
    fn make(&mut self) {
        let (context, config) = (&self.context, &self.config);
        self.runtime.block_on(async {
            for _ in 0..TRIES {
                match context.create_stream(config.clone()).await {
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
            panic!("no stream could be made");
        });
    }

    fn store(&self, subject: &'static str) -> Sequence {
        self.runtime.block_on(async {
            let sent = self.context.publish(subject, "a message".into()).await.expect("connected");
            Sequence::new(sent.await.expect("it is stored").sequence)
        })
    }

    /// Asks until there is an answer.
    fn ask(&self, order: impl Fn(CallId, PartitionId, Timestamp) -> Order<Body>) -> Option<ConsumerState> {
        self.runtime.block_on(async {
            for _ in 0..TRIES {
                match self.durables.answer(order(CallId::default(), partition(), self.created)).await {
                    Some((_, Answer::Consumer(state))) => return Some(state),
                    Some((_, Answer::NoConsumer)) => return None,
                    Some((_, Answer::Failed { .. })) => tokio::time::sleep(AGAIN).await,
                    other => panic!("not about a consumer: {other:?}"),
                }
            }
            panic!("no answer came");
        })
    }

    async fn consumer(&self) -> consumer::PullConsumer {
        let stream = self.context.get_stream(STREAM).await.expect("a stream");
        stream.get_consumer(&self.durables.name(&partition(), self.created)).await.expect("a consumer")
    }
}

impl QueueUnderTest for Real<'_> {
    fn publish(&mut self) -> Sequence {
        self.store("queue.a")
    }

    fn publish_elsewhere(&mut self) -> Sequence {
        self.store("queue.b")
    }

    fn has(&mut self, sequence: Sequence) -> bool {
        self.runtime.block_on(async {
            let stream = self.context.get_stream(STREAM).await.expect("a stream");
            stream.get_raw_message(sequence.value()).await.is_ok()
        })
    }

    fn recreate(&mut self) {
        self.runtime.block_on(self.context.delete_stream(STREAM)).expect("deleted");
        self.make();
    }

    fn find(&mut self) -> Option<ConsumerState> {
        self.ask(|call, partition, created| Order::FindConsumer { call, partition, created })
    }

    fn create(&mut self) -> ConsumerState {
        let replaces = false;
        self.ask(|call, partition, created| Order::CreateConsumer { call, partition, created, replaces })
            .expect("it is there")
    }

    fn rename(&mut self, created: Timestamp) -> Timestamp {
        std::mem::replace(&mut self.created, created)
    }

    fn replace(&mut self) -> ConsumerState {
        let replaces = true;
        self.ask(|call, partition, created| Order::CreateConsumer { call, partition, created, replaces })
            .expect("it is there")
    }

    fn restore(&mut self) -> ConsumerState {
        self.ask(|call, partition, created| Order::RestoreConsumer { call, partition, created }).expect("it is there")
    }

    fn delete(&mut self) {
        let name = self.durables.name(&partition(), self.created);
        let deleted = async { self.context.delete_consumer_from_stream(name, STREAM).await };
        self.runtime.block_on(deleted).expect("deleted");
    }

    fn pull(&mut self, most: u32, bytes: Option<usize>, time: Duration) -> PullName {
        let name = PullName(self.pulls.len());
        let client = self.runtime.block_on(async_nats::connect(self.url)).expect("a connection");
        let wanted =
            durables(&client, TIMEOUT).wanted(CallId::default(), (partition(), self.created), most, bytes, time);
        let (sender, news) = mpsc::channel(16);
        let (open, closed) = oneshot::channel();
        self.runtime.spawn(pull::run(wanted, sender, closed));
        self.pulls.push(OpenPull { news, shown: VecDeque::new(), open: Some(open), client });
        // What follows happens when the server has the request.
        self.runtime.block_on(async {
            tokio::time::sleep(AGAIN).await;
            self.pulls[name.0].client.flush().await.expect("connected");
        });
        name
    }

    fn end_pull(&mut self, pull: PullName) {
        let pull = &mut self.pulls[pull.0];
        pull.open = None;
        let over = async { tokio::time::timeout(TIMEOUT, pull.news.recv()).await };
        let over = self.runtime.block_on(over);
        assert!(matches!(over, Ok(Some(News::Over(_, PullEnd::Done)))), "{over:?}");
    }

    fn next(&mut self, pull: PullName, patience: Duration) -> Option<PullShows> {
        let pull = &mut self.pulls[pull.0];
        while pull.shown.is_empty() {
            let news = async { tokio::time::timeout(patience, pull.news.recv()).await };
            match self.runtime.block_on(news).ok()?? {
                News::Pulled(_, _, shown) => {
                    for (Pulled { message, place, pending }, reply) in shown {
                        let sequence = message.sequence;
                        self.replies.entry(sequence).or_insert(reply);
                        pull.shown.push_back(PullShows::Message { sequence, place, pending });
                    }
                }
                News::Over(_, end) => pull.shown.push_back(PullShows::Over(end)),
            }
        }
        pull.shown.pop_front()
    }

    fn acknowledge(&mut self, sequence: Sequence) -> bool {
        let reply = self.replies[&sequence].clone();
        let durables = durables(&self.client, UNHEARD);
        let (_, answer) = self.runtime.block_on(durables.acknowledge(CallId::default(), vec![reply]));
        matches!(answer, Answer::Acknowledged)
    }

    fn extend(&mut self, sequence: Sequence) {
        let reply = self.replies[&sequence].clone();
        self.runtime.block_on(self.durables.extend(vec![reply]));
    }

    fn shorten_ack_wait(&mut self, to: Duration) {
        self.runtime.block_on(async {
            let mut config = self.consumer().await.cached_info().config.clone();
            config.ack_wait = to;
            let stream = self.context.get_stream(STREAM).await.expect("a stream");
            let config = consumer::pull::Config::try_from_consumer_config(config).expect("it is pulled from");
            stream.update_consumer(config).await.expect("it is changed");
        });
    }

    fn pass(&mut self, time: Duration) {
        self.runtime.block_on(tokio::time::sleep(time));
    }

    fn resets(&self) -> bool {
        server::resets_consumers(&self.client.server_info())
    }
}

fn partition() -> PartitionId {
    PartitionId::new("a").expect("a valid id")
}

fn durables(client: &Client, timeout: Duration) -> Durables {
    let group = GroupName::new("orders").expect("a valid name");
    let template = Template::new("queue.{partition}").expect("a valid template");
    Durables::new(&jetstream::new(client.clone()), STREAM, &group, &template, timeout)
}

#[expect(clippy::print_stdout, reason = "the last behaviour that a failed test shows is the one that does not hold")]
fn behaves_as_the_model_does(url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    // A client of JetStream begins a task of its own.
    let _entered = runtime.enter();
    let check = |behaviour: &QueueBehaviour, retention| {
        println!("{}", behaviour.what);
        let config = stream::Config {
            name: STREAM.into(),
            subjects: vec!["queue.*".into()],
            retention,
            ..stream::Config::default()
        };
        let mut real = Real::new(&runtime, url, config);
        (behaviour.check)(&mut real);
        runtime.block_on(real.context.delete_stream(STREAM)).expect("deleted");
        real.resets()
    };
    let mut resets = false;
    for behaviour in QUEUE_BEHAVIOURS {
        resets = check(behaviour, RetentionPolicy::WorkQueue);
    }
    // Others are refused for a stream with interest: to delete a consumer would remove what it has not acknowledged.
    for behaviour in INTEREST_BEHAVIOURS.iter().filter(|_| resets) {
        check(behaviour, RetentionPolicy::Interest);
    }
}

#[test]
fn a_consumer_of_a_server_behaves_as_the_model_does() {
    let server = Server::start();
    behaves_as_the_model_does(&server.url());
}
