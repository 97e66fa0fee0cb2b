use parti_core::{Bucket, Key, Record, Slot};

/// Decoding never panics, and what it accepts reads back from its own encoding. The first byte chooses the key.
///
/// # Panics
///
/// If that is not so.
pub fn record(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let key = match which % 4 {
        0 => Key::Slot(Slot::new(7)),
        1 => Key::Leader,
        2 => Key::Assign(Slot::new(7)),
        _ => Key::Cluster,
    };
    if let Ok(record) = Record::decode(key, bytes) {
        let again = Record::decode(key, &record.encode()).expect("its own encoding");
        assert_eq!(again, record);
    }
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    for bucket in Bucket::ALL {
        if let Some(key) = Key::parse(bucket, name) {
            assert_eq!(key.to_string(), name);
        }
    }
}
