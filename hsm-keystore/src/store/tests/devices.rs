//! The part of the suite about imaging devices: enrolments, and counters that are used once.

use eds_core::ids::DeviceId;

use super::*;

fn device(number: u8, enrolment: u8) -> StoredDevice {
    StoredDevice {
        device: DeviceId::from_bytes([number; 16]),
        enrolment: vec![number, enrolment],
        mac: vec![enrolment; 32],
    }
}

/// Holds for every store, at any time.
pub(in crate::store) fn conform(store: &dyn ShareStore) {
    assert_eq!(store.devices().expect("reads"), []);
    assert_eq!(store.device(DeviceId::from_bytes([1; 16])).expect("reads"), None);
    assert!(store.enroll(&device(2, 1), 5_000).expect("stores"));
    assert!(store.enroll(&device(1, 1), 5_001).expect("stores"));
    assert!(!store.enroll(&device(1, 2), 5_002).expect("answers"), "a device was enrolled over another enrolment");
    assert_eq!(store.device(DeviceId::from_bytes([1; 16])).expect("reads"), Some(device(1, 1)));
    assert_eq!(store.devices().expect("reads"), [device(1, 1), device(2, 1)]);

    // An enrolment is changed only as the caller saw it.
    assert!(!store.change_device(&device(1, 9), &device(1, 2), 5_003).expect("answers"));
    let other_mac = StoredDevice { mac: vec![9; 32], ..device(1, 1) };
    assert!(!store.change_device(&other_mac, &device(1, 2), 5_003).expect("answers"));
    assert!(!store.change_device(&device(3, 1), &device(3, 2), 5_003).expect("answers"));
    assert!(store.change_device(&device(1, 1), &device(1, 2), 5_004).expect("changes"));
    assert_eq!(store.devices().expect("reads"), [device(1, 2), device(2, 1)]);

    counters(store);
}

fn counters(store: &dyn ShareStore) {
    let active = active_kek(store).expect("one");
    let key = |number: u8| NewKey { record: record(active, number), ..new_key(number) };
    let frame = |device: u8, counter: u64, key: u8| Registration {
        counter: Some(DeviceCounter { device: DeviceId::from_bytes([device; 16]), counter }),
        ..registration([device; 32], key, key)
    };
    let register =
        |registration: &Registration, number: u8| store.register(registration, &[key(number)]).expect("answers");
    // In any order, up to the highest number, and each device for itself.
    for (device, counter, number) in [(1, u64::MAX, 201), (1, 7, 202), (1, 0, 203), (1, 6, 204), (2, 7, 205)] {
        assert_eq!(register(&frame(device, counter, number), number), Registered::Stored);
    }
    // The same frame again is the same success, whatever became of its key; a counter is used up for ever.
    assert_eq!(register(&frame(1, 7, 202), 202), Registered::Before(vec![KeyState::Pending]));
    assert_eq!(register(&frame(1, 7, 206), 206), Registered::CounterUsed(id(202)));
    assert_eq!(states(store, &[206]), [None]);
    store.withdraw(&[id(202)], &[1; 32], 5_100).expect("answers");
    assert_eq!(register(&frame(1, 7, 206), 206), Registered::CounterUsed(id(202)));
    assert_eq!(register(&frame(1, 7, 202), 202), Registered::Before(vec![KeyState::Tombstone]));
    // The registration that was refused left nothing: neither its id nor its counter is taken.
    assert_eq!(register(&frame(1, 8, 206), 206), Registered::Stored);
    // A key that exists, or was deleted, uses no counter up.
    let other = Registration { id: [251; 16], ..frame(1, 9, 201) };
    assert_eq!(register(&other, 201), Registered::KeyExists(id(201)));
    let gone = Registration { id: [252; 16], ..frame(1, 9, 202) };
    assert_eq!(register(&gone, 202), Registered::KeyDeleted(id(202)));
    assert_eq!(register(&frame(1, 9, 207), 207), Registered::Stored);

    // Of two keys with one counter at once, one wins.
    let stored = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (210..218).map(|number| scope.spawn(move || register(&frame(2, 99, number), number))).collect();
        racers.into_iter().map(|racer| racer.join().expect("no panic")).filter(|won| *won == Registered::Stored).count()
    });
    assert_eq!(stored, 1);
}
