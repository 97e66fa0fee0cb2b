//! The least that a client must be allowed, and the check that it is.
//!
//! News of the buckets come on subjects to which only the server publishes, and a watch believes them. So nobody but
//! the server may publish there: none of these lists has them, which is enough, since a server refuses what a list of
//! allowed subjects does not have. Who is allowed everything can lie there, but could as well write the buckets.

use std::fmt;

use async_nats::jetstream::message::PublishMessage;
use futures_util::future::join_all;
use parti_core::{Bucket, GroupName, Key, Slot};

use crate::bucket::Names;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::probe;
use crate::snapshot::read_together_subject;

/// A revision that no bucket will ever have: a write that expects it is refused, if it is not refused for want of a
/// permission.
const NEVER: u64 = i64::MAX as u64;

/// What a client does for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A worker of a group whose buckets were created by somebody else; see [`create_buckets`](crate::create_buckets).
    /// Any worker may come to lead, so all need the same. The workers of a group trust each other.
    Worker,
    /// A worker that may also create the buckets, as it does where they are missing.
    FoundingWorker,
    /// An operator: creates the buckets, reads everything, edits the partition list and the wishes under `control.*`,
    /// but can neither pose as a worker nor write the plan.
    Operator,
    /// Reads everything, as an [`Observer`](crate::Observer) does, and writes nothing.
    Observer,
}

/// The subjects that a client must be allowed to use; everything else may be forbidden.
///
/// Shown as the `permissions` of a user in a nats-server configuration:
///
/// ```
/// use parti_nats::{GroupName, Role, permissions};
///
/// let worker = permissions(&GroupName::new("orders")?, Role::Worker);
/// println!("{{ user: worker, password: $WORKER_PASSWORD, permissions: {worker} }}");
/// assert!(worker.publish.contains(&"$KV.parti_orders_plan.cluster".to_owned()));
/// # Ok::<(), parti_nats::GroupNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// To publish to.
    pub publish: Vec<String>,
    /// To subscribe to. A client with an inbox prefix of its own needs that instead of `_INBOX`.
    pub subscribe: Vec<String>,
    /// Whether to answer what it is asked, on whatever subject it is told to.
    pub allow_responses: bool,
}

/// The least that a client of `group` must be allowed in `role`.
pub fn permissions(group: &GroupName, role: Role) -> Permissions {
    let [members, plan] = Bucket::ALL.map(|bucket| Names::new(group, bucket));
    let partitions = Names::partitions(group);
    let all = [&members, &plan, &partitions];
    let (members, plan, list) = (&members.stored, &plan.stored, &partitions.stored);

    let works = matches!(role, Role::Worker | Role::FoundingWorker);
    let creates = matches!(role, Role::FoundingWorker | Role::Operator);
    let mut publish = Vec::new();
    for Names { stream, .. } in all {
        publish.push(format!("$JS.API.STREAM.INFO.{stream}"));
        publish.push(format!("$JS.API.STREAM.MSG.GET.{stream}"));
        if creates {
            publish.push(format!("$JS.API.STREAM.CREATE.{stream}"));
        }
    }
    let mut subscribe = vec!["_INBOX.>".to_owned()];
    subscribe.extend(all.map(|names| format!("{}>", names.repeated)));
    publish.extend(Bucket::ALL.map(|bucket| read_together_subject(&Names::new(group, bucket))));
    if works {
        publish.push(format!("{members}slot.*"));
        publish.push(format!("{members}leader"));
        publish.push(format!("{plan}assign.*"));
        publish.push(format!("{plan}cluster"));
        publish.push(probe::subject(group, "*"));
        subscribe.push(probe::subject(group, "*"));
    } else if role == Role::Operator {
        publish.push(format!("$JS.API.STREAM.PURGE.{}", partitions.stream));
        publish.push(format!("{members}control.>"));
        publish.push(format!("{list}>"));
    }
    Permissions { publish, subscribe, allow_responses: works }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |subjects: &[String]| {
            let lines = subjects.iter().map(|subject| format!("\n    \"{subject}\""));
            lines.collect::<String>()
        };
        write!(f, "{{\n  publish: {{ allow: [{}\n  ] }}\n", list(&self.publish))?;
        write!(f, "  subscribe: {{ allow: [{}\n  ] }}\n", list(&self.subscribe))?;
        if self.allow_responses {
            writeln!(f, "  allow_responses: true")?;
        }
        f.write_str("}")
    }
}

/// Tries everything that a worker does, without doing anything. `slot` is one that it may come to hold.
///
/// # Errors
///
/// [`ErrorKind::Permission`] with all that is missing; [`ErrorKind::Unanswered`] if only silence was the answer.
pub(crate) async fn check(connection: &Connection, group: &GroupName, slot: Slot) -> Result<(), Error> {
    let [members, plan] = Bucket::ALL.map(|bucket| Names::new(group, bucket));
    let client = &connection.client;
    // The server reads what one client sends in order: when it has answered what follows, it has refused these.
    let name = format!("check-{}", client.server_info().client_id);
    let own = probe::subject(group, &name);
    let closed = |error| Error::with_source(ErrorKind::ConnectionClosed, error);
    let mut doors = Vec::new();
    for names in [&members, &plan] {
        doors.push(client.subscribe(format!("{}>", names.repeated)).await.map_err(closed)?);
    }
    let questions = client.subscribe(own.clone()).await.map_err(closed)?;
    let keys = [Key::Slot(slot), Key::Leader, Key::Assign(slot), Key::Cluster];
    let writes = keys.map(|key| {
        let names = if key.bucket() == Bucket::Members { &members } else { &plan };
        format!("{}{key}", names.stored)
    });
    let reads = [&members, &plan]
        .map(|names| [format!("$JS.API.STREAM.MSG.GET.{}", names.stream), read_together_subject(names)]);
    let reads = reads.concat();
    let tries = join_all(writes.iter().map(|subject| try_to_write(connection, subject)));
    let tries = tries.await.into_iter().chain(join_all(reads.iter().map(|subject| ask(connection, subject))).await);
    // It asks itself: whatever else listens there, such as a tool that shows all messages, does not matter.
    let probed = tokio::select! {
        probed = ask(connection, &own) => probed,
        () = probe::answer(client.clone(), questions) => Err(own),
    };
    let unanswered = tries.chain([probed]).find_map(Result::err);
    if let Some(refused) = connection.refusals.error(None) {
        return Err(refused);
    }
    unanswered.map_or(Ok(()), |subject| Err(Error::new(ErrorKind::Unanswered { subject })))
}

/// Tries everything by which a group is read. The list is not asked for: not every group has one.
pub(crate) async fn check_reading(connection: &Connection, group: &GroupName) -> Result<(), Error> {
    let reads = Bucket::ALL.map(|bucket| {
        let names = Names::new(group, bucket);
        let single = format!("$JS.API.STREAM.MSG.GET.{}", names.stream);
        [single, read_together_subject(&names)].map(|subject| connection.in_api(subject))
    });
    let answers = join_all(reads.iter().flatten().map(|subject| ask(connection, subject))).await;
    let unanswered = answers.into_iter().find_map(Result::err);
    unanswered.map_or(Ok(()), |subject| Err(Error::new(ErrorKind::Unanswered { subject })))
}

/// Tries a write whose condition cannot hold. An error is the subject that nobody has answered for.
async fn try_to_write(connection: &Connection, subject: &str) -> Result<(), String> {
    let message = PublishMessage::build().expected_last_sequence(NEVER);
    let written = async {
        let sent = connection.jetstream.send_publish(subject.to_owned(), message).await;
        // Whatever the server says, it says it to one that may ask.
        match sent {
            Ok(acknowledged) => match acknowledged.await {
                Err(error) => error.kind() != async_nats::jetstream::context::PublishErrorKind::TimedOut,
                Ok(_) => true,
            },
            Err(_) => false,
        }
    };
    answered(connection, subject, written).await
}

/// Asks for something on `subject`, whatever the answer.
async fn ask(connection: &Connection, subject: &str) -> Result<(), String> {
    let request = async_nats::Request::new().timeout(Some(connection.request_timeout));
    let asked = async {
        match connection.client.send_request(subject.to_owned(), request).await {
            Ok(_) => true,
            Err(error) => error.kind() == async_nats::RequestErrorKind::NoResponders,
        }
    };
    answered(connection, subject, asked).await
}

async fn answered(connection: &Connection, subject: &str, answer: impl Future<Output = bool>) -> Result<(), String> {
    tokio::select! {
        answered = answer => if answered { Ok(()) } else { Err(subject.to_owned()) },
        _ = connection.refusals.of(subject, 0) => Err(subject.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use parti_core::WorkerState;

    use super::*;
    use crate::Builder;
    use crate::support::Server;

    /// Longer than a worker takes to start on a slow machine.
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

    fn group() -> GroupName {
        GroupName::new("orders").expect("a valid name")
    }

    /// A server that lets in the users `w`, who may do as they are told here, and `all`.
    fn server(allowed: &Permissions) -> Server {
        let w = format!("{{ user: w, password: w, permissions: {allowed} }}");
        let all = "{ user: all, password: all }";
        Server::start_with_config(&format!("jetstream: enabled\nauthorization {{ users: [ {w}, {all} ] }}\n"))
    }

    async fn client(server: &Server, user: &str) -> async_nats::Client {
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), user.into());
        options.connect(server.url()).await.expect("it is let in")
    }

    /// How a worker fares with `allowed`; the buckets are there if it may not create them.
    async fn start(allowed: &Permissions) -> Result<(), Error> {
        let server = server(allowed);
        if !allowed.publish.iter().any(|subject| subject.contains("CREATE")) {
            crate::create_buckets(&client(&server, "all").await, &group(), 1).await.expect("created");
        }
        let options = async_nats::ConnectOptions::with_user_and_password("w".into(), "w".into());
        let config = crate::Config { expected_workers: Some(1), ..crate::Config::default() };
        let builder = Builder::new("orders").server(server.url()).connect_options(options).config(config);
        let mut worker = builder.partition_ids(["p"]).start().expect("valid settings");
        worker.wait_for_state(WorkerState::Stable, DEADLINE).await?;
        worker.stop();
        while worker.next_change().await.is_some() {}
        worker.finished().await
    }

    #[tokio::test]
    async fn a_worker_needs_each_of_its_permissions_and_no_other() {
        start(&permissions(&group(), Role::FoundingWorker)).await.expect("it founds the group");
        let allowed = permissions(&group(), Role::Worker);
        start(&allowed).await.expect("it works");
        let without = |subjects: &[String], missing: &String| {
            subjects.iter().filter(|subject| *subject != missing).cloned().collect::<Vec<_>>()
        };
        let needed = |subject: &&String| !subject.contains("partitions");
        let publish = allowed.publish.iter().filter(needed).map(|missing| {
            (Permissions { publish: without(&allowed.publish, missing), ..allowed.clone() }, "Publish", missing)
        });
        let subscribe = allowed.subscribe.iter().filter(needed).map(|missing| {
            (
                Permissions { subscribe: without(&allowed.subscribe, missing), ..allowed.clone() },
                "Subscription",
                missing,
            )
        });
        let tries = publish.chain(subscribe).map(|(allowed, what, missing)| refused(allowed, what, missing));
        join_all(tries).await;
    }

    async fn refused(allowed: Permissions, what: &str, missing: &str) {
        let error = start(&allowed).await.expect_err(missing);
        assert!(matches!(error.kind(), ErrorKind::Permission { .. }), "{missing}: {error}");
        let subject = missing.trim_end_matches(['>', '*']);
        assert!(error.to_string().contains(&format!("for {what} to \"{subject}")), "{missing}: {error}");
    }

    #[tokio::test]
    async fn who_listens_to_everything_keeps_no_worker_from_starting() {
        let server = Server::start();
        let tool = async_nats::connect(server.url()).await.expect("it is let in");
        let _everything = tool.subscribe(">").await.expect("subscribed");
        tool.flush().await.expect("a server");
        let config = crate::Config { expected_workers: Some(1), ..crate::Config::default() };
        let builder = Builder::new("orders").server(server.url()).config(config).partition_ids(["p"]);
        let worker = builder.start().expect("valid settings");
        worker.wait_for_state(WorkerState::Stable, DEADLINE).await.expect("it works");
    }

    #[test]
    fn the_documentation_has_the_lists() {
        let documented = include_str!("../OPERATIONS.md");
        for role in [Role::Worker, Role::Operator, Role::Observer] {
            let list = permissions(&group(), role).to_string();
            assert!(documented.contains(&format!("```text\n{list}\n```")), "{list}");
        }
    }

    #[tokio::test]
    async fn an_operator_can_do_what_its_tools_do() {
        let server = server(&permissions(&group(), Role::Operator));
        let operator = client(&server, "w").await;
        crate::create_buckets(&operator, &group(), 1).await.expect("created");
        let bucket = crate::PartitionBucket::open(operator, &group(), 1).await.expect("opened");
        let ids = (0..100_000).map(|number| crate::PartitionId::new(format!("orders-{number}")).expect("a valid id"));
        bucket.add(ids.map(crate::Partition::new)).await.expect("added");
        assert_eq!(bucket.read().await.expect("a list").partitions.as_slice().len(), 100_000);
    }

    #[tokio::test]
    async fn an_observer_needs_each_of_its_permissions_and_can_write_nothing() {
        const MEMBERS: &str = "parti.orders.members.>";
        const PLAN: &str = "parti.orders.plan.>";
        observe(&permissions(&group(), Role::Observer)).await.expect("it may").expect("it sees all");
        let allowed = permissions(&group(), Role::Observer);
        let less = |missing: &str| {
            let without =
                |subjects: &[String]| subjects.iter().filter(|subject| *subject != missing).cloned().collect();
            let (publish, subscribe) = (without(&allowed.publish), without(&allowed.subscribe));
            Permissions { publish, subscribe, allow_responses: false }
        };
        // Whom the news of a bucket do not reach reads it again and again instead.
        let needed = |subject: &&String| ![MEMBERS, PLAN].contains(&subject.as_str());
        let all: Vec<String> = allowed.publish.iter().chain(&allowed.subscribe).filter(needed).cloned().collect();
        let tries = all.iter().map(|missing| async move { (missing, observe(&less(missing)).await) });
        for (missing, seen) in join_all(tries).await {
            assert!(seen.as_ref().is_ok_and(Result::is_err) || seen.is_err(), "{missing}: {seen:?}");
        }

        let server = server(&allowed);
        let all = client(&server, "all").await;
        crate::create_buckets(&all, &group(), 1).await.expect("created");
        let observer = client(&server, "w").await;
        for subject in ["members.control.pause", "members.slot.0", "plan.cluster", "partitions.list"] {
            observer.publish(format!("$KV.parti_orders_{subject}"), "{\"v\":1}".into()).await.expect("sent");
        }
        observer.flush().await.expect("a server");
        for bucket in ["members", "plan", "partitions"] {
            let stream = jetstream_of(&all).get_stream(format!("KV_parti_orders_{bucket}")).await.expect("it is there");
            assert_eq!(stream.cached_info().state.last_sequence, 0, "{bucket}");
        }
    }

    fn jetstream_of(client: &async_nats::Client) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(client.clone())
    }

    /// What an observer with `allowed` sees of a group with a list: whether it opens, and then what is amiss, if anything
    /// is.
    async fn observe(allowed: &Permissions) -> Result<Result<(), String>, Error> {
        let server = server(allowed);
        let all = client(&server, "all").await;
        crate::create_buckets(&all, &group(), 1).await.expect("created");
        let list = crate::PartitionBucket::open(all.clone(), &group(), 1).await.expect("opened");
        let add = |id| list.add([crate::Partition::new(crate::PartitionId::new(id).expect("a valid id"))]);
        add("p").await.expect("added");
        let observer = crate::Observer::open(client(&server, "w").await, &group()).await?;
        let picture = observer.snapshot();
        if picture.list.as_ref().is_none_or(|list| list.partitions.is_err()) {
            return Ok(Err(format!("the list is {:?}", picture.list)));
        }
        // What is written comes by the doorbell, or there is a warning that it does not.
        for subject in ["$KV.parti_orders_members.control.pause", "$KV.parti_orders_plan.cluster"] {
            jetstream_of(&all).publish(subject, "{\"v\":1}".into()).await.expect("sent").await.expect("stored");
        }
        add("q").await.expect("added");
        let is_heard = |picture: &crate::Picture| {
            let listed = picture.list.as_ref().and_then(|list| list.partitions.as_ref().ok());
            picture.wishes.len() == 1 && picture.unreadable.len() == 1 && listed.is_some_and(|listed| listed.len() == 2)
        };
        let heard = observer.wait_for(std::time::Duration::from_secs(5), is_heard).await;
        let warnings = observer.warnings();
        match heard {
            Ok(_) if warnings.is_empty() => Ok(Ok(())),
            heard => Ok(Err(format!("{heard:?} {warnings:?}"))),
        }
    }

    #[tokio::test]
    async fn a_worker_cannot_forge_news() {
        let server = server(&permissions(&group(), Role::Worker));
        let all = client(&server, "all").await;
        let mut heard = all.subscribe("parti.orders.>").await.expect("subscribed");
        let worker = client(&server, "w").await;
        for subject in ["parti.orders.members.slot.0", "parti.orders.plan.assign.0", "parti.orders.probe.x"] {
            worker.publish(subject, "forged".into()).await.expect("sent");
        }
        let heard = heard.next().await.expect("the last of them");
        assert_eq!(heard.subject.as_str(), "parti.orders.probe.x");
    }
}
