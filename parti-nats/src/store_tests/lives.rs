//! What a bucket's life is known by, and what ends it.

use async_nats::jetstream::stream::{Config, Stream};

use super::*;

/// How often a watch reads here: what nothing tells of shows soon.
const OFTEN: Duration = Duration::from_millis(200);

async fn stream(world: &World, bucket: Bucket) -> Stream {
    let names = Names::new(&world.group, bucket);
    world.connection.jetstream.get_stream(&names.stream).await.expect("the bucket's stream")
}

async fn life(world: &World, bucket: Bucket) -> Incarnation {
    bucket::life_of(stream(world, bucket).await.cached_info())
}

/// The same bucket as an older version makes it: without a name of its life, and open to purges.
async fn make_as_before(world: &World, bucket: Bucket) {
    let jetstream = &world.connection.jetstream;
    let made = stream(world, bucket).await.cached_info().config.clone();
    let config = Config { metadata: [].into(), deny_purge: false, allow_rollup: true, ..made };
    jetstream.delete_stream(&config.name).await.expect("deleted");
    jetstream.create_stream(config).await.expect("created");
}

#[tokio::test]
async fn a_bucket_that_many_found_at_once_has_one_life_which_outlives_the_server() {
    let server = Servers::single();
    let group = GroupName::new("orders").expect("a valid name");
    let connections = join_all((0..6).map(|_| connect(&server.urls))).await;
    let found = connections.iter().map(|connection| bucket::ensure(&connection.jetstream, &group, 1));
    for founded in join_all(found).await {
        founded.expect("founded, or found");
    }
    let mut world = World::new(server).await;
    let before = life(&world, Bucket::Plan).await;
    let info = stream(&world, Bucket::Plan).await.cached_info().clone();
    assert_eq!(info.config.metadata.get("parti_incarnation"), Some(&before.to_string()));

    let single = world.servers.single.as_mut().expect("a single server");
    single.kill();
    single.resume();
    world.connection = connect(&world.servers.urls).await;
    assert_eq!(life(&world, Bucket::Plan).await, before);
    world.recreate(Bucket::Plan).await;
    assert!(life(&world, Bucket::Plan).await > before);
}

#[tokio::test]
async fn a_bucket_denies_what_would_remove_it_all_and_lets_single_keys_be_deleted() {
    let world = World::new(Servers::single()).await;
    let one = world.commit(create(slot(1), 1)).await;
    let stream = stream(&world, Bucket::Members).await;
    stream.purge().await.expect_err("purges are denied");
    let tool = world.connection.jetstream.get_key_value(world.group.bucket_name(Bucket::Members)).await;
    let tool = tool.expect("a bucket");
    tool.purge("slot.1").await.expect_err("what replaces all of a key is denied");
    tool.delete("slot.1").await.expect("a marker is a message as any other");
    assert_eq!(life(&world, Bucket::Members).await, bucket::life_of(stream.cached_info()));
    assert_eq!(world.store.execute(&update(slot(1), 2, one)).await, Outcome::Conflict);
    let two = world.commit(create(slot(1), 2)).await;
    world.commit(Write::Delete { key: slot(1), expected: two }).await;
}

#[tokio::test]
async fn a_purge_of_an_older_bucket_is_noticed_by_every_watch() {
    for interest in [Interest::All, Interest::Keys([slot(1)].into())] {
        let world = World::new(Servers::single()).await;
        make_as_before(&world, Bucket::Members).await;
        world.ensure_buckets().await;
        let one = world.commit(create(slot(1), 1)).await;
        let mut watched = world.watch_every(Bucket::Members, interest, OFTEN);
        assert_eq!(watched.next_change().await, Shown::Entry(slot(1), one));
        watched.until_caught_up().await;
        stream(&world, Bucket::Members).await.purge().await.expect("purged");
        assert_eq!(watched.next_change().await, Shown::Lost);
        assert_eq!(watched.next().await, Shown::CaughtUp);
    }
}

/// What the operator's guide tells to do with a bucket of an older version.
#[tokio::test]
async fn an_older_bucket_is_given_a_name_and_closed_to_purges_while_it_is_in_use() {
    let world = World::new(Servers::single()).await;
    make_as_before(&world, Bucket::Members).await;
    let one = world.commit(create(slot(1), 1)).await;
    let before = life(&world, Bucket::Members).await;
    let mut watched = world.watch_every(Bucket::Members, Interest::All, OFTEN);
    assert_eq!(watched.next_change().await, Shown::Entry(slot(1), one));

    let metadata = [("parti_incarnation".to_owned(), before.to_string())].into();
    let found = stream(&world, Bucket::Members).await.cached_info().config.clone();
    let closed = Config { metadata, deny_purge: true, allow_rollup: false, ..found };
    world.connection.jetstream.update_stream(closed).await.expect("edited");
    assert_eq!(life(&world, Bucket::Members).await, before);
    stream(&world, Bucket::Members).await.purge().await.expect_err("purges are denied");
    for _ in 0..3 {
        watched.until_caught_up().await;
    }
    let two = world.commit(update(slot(1), 2, one)).await;
    assert_eq!(watched.next_change().await, Shown::Entry(slot(1), two));
}
