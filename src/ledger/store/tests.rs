use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::core::{GroupId, Usage};

const WALL: Duration = Duration::from_secs(1_795_500_000);

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(TempDir::with_prefix("paddock-ledger-").unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn open(&self, groups: &[&str]) -> (Store, Option<LedgerRecord>) {
        Store::open(self.path(), groups.iter().map(|&name| name.into()).collect(), WALL).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path().join(FILE_NAME)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }
}

fn record(seconds: u64) -> LedgerRecord {
    let used = Usage { instance: Duration::new(seconds, 1), busy: Duration::from_secs(seconds / 2) };
    LedgerRecord {
        at: WALL + Duration::from_nanos(123_456_789),
        began: WALL,
        days: [(Day::of(WALL), [(GroupId(0), used), (GroupId(1), used)].into())].into(),
        instances: [("i-1".into(), GroupId(0))].into(),
    }
}

#[test]
fn what_is_kept_is_read_to_the_nanosecond() {
    let dir = Dir::new();
    let (mut store, found) = dir.open(&["spot", "on demand"]);
    assert_eq!(found, None);
    store.keep(&record(10));
    assert_eq!(dir.open(&["spot", "on demand"]).1, Some(record(10)));
    assert_eq!(dir.names(), [FILE_NAME]);
}

#[test]
fn groups_are_kept_by_name() {
    let dir = Dir::new();
    dir.open(&["spot", "on demand"]).0.keep(&record(10));
    let (_, swapped) = dir.open(&["on demand", "spot"]);
    assert_eq!(swapped.unwrap().instances, BTreeMap::from([("i-1".into(), GroupId(1))]));
    // One that is not configured is not counted, and is kept.
    let (mut store, found) = dir.open(&["on demand"]);
    let found = found.unwrap();
    assert_eq!((found.days[&Day::of(WALL)].len(), found.instances.len()), (1, 0));
    store.keep(&LedgerRecord { at: WALL + Duration::from_secs(9), instances: BTreeMap::new(), ..found });
    let (_, found) = dir.open(&["spot", "on demand"]);
    assert_eq!(found.unwrap().days, record(10).days);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let dir = Dir::new();
    let (mut store, _) = dir.open(&["spot", "on demand"]);
    store.keep(&record(10));
    let before = dir.text();
    store.keep(&LedgerRecord { at: WALL * 2, ..record(10) });
    assert_eq!(dir.text(), before);
    store.keep(&record(11));
    assert_ne!(dir.text(), before);
}

#[test]
fn a_damaged_file_is_set_aside() {
    let good = {
        let dir = Dir::new();
        dir.open(&["spot", "on demand"]).0.keep(&record(10));
        dir.text()
    };
    let broken = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}: {good}");
        good.replace(from, to)
    };
    for text in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        good[..good.len() / 2].to_owned(),
        broken("\"version\": 1", "\"version\": 2"),
        broken("\"busy_nanoseconds\": 5000000000", "\"busy_nanoseconds\": 10000000002"),
        broken("\"instance_nanoseconds\": 10000000001", "\"instance_nanoseconds\": 18446744073709551615"),
        broken("\"instance_nanoseconds\": 10000000001", "\"instance_nanoseconds\": -1"),
        broken("\"began\": \"2026", "\"began\": \"2027"),
        broken("\"at\": \"2026", "\"at\": \"x"),
        broken(&Day::of(WALL).to_string().replace("2026", "\"2026"), "\"2026-13-01"),
    ] {
        let dir = Dir::new();
        fs::write(dir.path().join(FILE_NAME), &text).unwrap();
        let (mut store, found) = dir.open(&["spot", "on demand"]);
        assert_eq!(found, None, "{text}");
        let aside = format!("{FILE_NAME}.damaged-{}", WALL.as_secs());
        assert_eq!(dir.names(), [FILE_NAME.to_owned(), aside.clone()]);
        assert_eq!(fs::read_to_string(dir.path().join(aside)).unwrap(), text);
        store.keep(&record(11));
        assert_eq!(dir.open(&["spot", "on demand"]).1, Some(record(11)));
    }
}

#[test]
fn a_balancer_does_not_write_over_its_successor() {
    let dir = Dir::new();
    let (mut first, _) = dir.open(&["spot", "on demand"]);
    first.keep(&record(10));
    let (mut second, found) = dir.open(&["spot", "on demand"]);
    assert_eq!(found, Some(record(10)));
    // The successor has only begun.
    first.keep(&record(11));
    assert_eq!(dir.open(&["spot", "on demand"]).1, Some(record(10)));
    let (mut third, _) = dir.open(&["spot", "on demand"]);
    second.keep(&record(12));
    third.keep(&record(13));
    first.keep(&record(14));
    assert_eq!(dir.open(&["spot", "on demand"]).1, Some(record(13)));
}

#[test]
fn a_directory_that_is_of_no_use_is_said_at_the_start() {
    let dir = Dir::new();
    let missing = Store::open(&dir.path().join("missing"), Vec::new(), WALL).unwrap_err().to_string();
    assert!(missing.starts_with("--state-dir: '") && missing.contains("cannot be written to"), "{missing}");
    fs::write(dir.path().join("file"), "").unwrap();
    let file = Store::open(&dir.path().join("file"), Vec::new(), WALL).unwrap_err().to_string();
    assert!(file.contains("Not a directory"), "{file}");
    fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
    let taken = Store::open(dir.path(), Vec::new(), WALL).unwrap_err().to_string();
    assert!(taken.contains("cannot be read"), "{taken}");
}

#[test]
fn what_cannot_be_written_later_is_written_once_it_can_be() {
    let dir = Dir::new();
    let (mut store, _) = dir.open(&["spot", "on demand"]);
    store.keep(&record(10));
    // The directory vanishes, as when a disk is unmounted.
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).unwrap();
    store.keep(&record(11));
    assert!(store.is_failing);
    store.keep(&record(12));
    fs::rename(&away, dir.path()).unwrap();
    assert!(dir.text().contains("10000000001"), "the old one is whole");
    // A step later fails: something stands where the file is to go. (Root may write everywhere, so no permission helps.)
    fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    fs::create_dir_all(dir.path().join(FILE_NAME).join("x")).unwrap();
    store.keep(&record(12));
    assert!(store.is_failing);
    assert_eq!(dir.names(), [FILE_NAME], "nothing is left beside it");
    fs::remove_dir_all(dir.path().join(FILE_NAME)).unwrap();
    store.keep(&record(12));
    assert!(!store.is_failing);
    assert_eq!(dir.open(&["spot", "on demand"]).1, Some(record(12)));
}

/// `/dev/full` gives ENOSPC for each write.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let dir = Dir::new();
    let (mut store, _) = dir.open(&["spot", "on demand"]);
    store.keep(&record(10));
    let full = Builder::new().prefix(BESIDE).make_in(dir.path(), |beside| {
        std::os::unix::fs::symlink("/dev/full", beside)?;
        Handle::create(beside)
    });
    let error = put(full.unwrap(), b"{}", dir.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(dir.text().contains("10000000001"));
    assert_eq!(dir.names(), [FILE_NAME], "the file that was begun is gone");
}

#[test]
fn what_a_kill_left_is_cleared_away_and_what_is_being_written_is_not() {
    let dir = Dir::new();
    let beside = format!("{BESIDE}abc");
    fs::write(dir.path().join(&beside), "{").unwrap();
    let written = fs::metadata(dir.path().join(&beside)).unwrap().modified().unwrap();
    let written = written.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let open = |wall: Duration| drop(Store::open(dir.path(), Vec::new(), wall).unwrap());
    open(written + BESIDE_MAX - Duration::from_secs(1));
    assert_eq!(dir.names(), [FILE_NAME.to_owned(), beside]);
    open(written + BESIDE_MAX);
    assert_eq!(dir.names(), [FILE_NAME]);
}

#[test]
fn who_may_read_the_file_is_the_umasks_business() {
    let dir = Dir::new();
    dir.open(&[]);
    fs::write(dir.path().join("plain"), "").unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode(FILE_NAME), mode("plain"));
}

/// Without the file nobody knows who came before.
#[test]
fn the_successor_of_a_lost_or_damaged_file_is_one_all_the_same() {
    for text in [None, Some("{\"version\": 1, \"balancer\": 3"), Some("{\"version\": 2, \"balancer\": 7}")] {
        let dir = Dir::new();
        // Seven balancers, of which the last one lives on.
        let open = || dir.open(&["spot", "on demand"]).0;
        let mut old = (1..7).fold(open(), |_, _| open());
        old.keep(&record(10));
        match text {
            None => fs::remove_file(dir.path().join(FILE_NAME)).unwrap(),
            Some(text) => fs::write(dir.path().join(FILE_NAME), text).unwrap(),
        }
        let groups = vec!["spot".into(), "on demand".into()];
        let (mut new, found) = Store::open(dir.path(), groups, WALL + Duration::from_secs(1)).unwrap();
        assert_eq!(found, None);
        new.keep(&record(20));
        old.keep(&record(11));
        new.keep(&record(21));
        assert_eq!(dir.open(&["spot", "on demand"]).1, Some(record(21)), "{text:?}");
    }
}

#[test]
fn a_successor_of_a_later_version_is_one() {
    let dir = Dir::new();
    let (mut old, _) = dir.open(&["spot", "on demand"]);
    let text = format!("{{\"version\": 2, \"balancer\": {}}}", old.balancer + 1);
    fs::write(dir.path().join(FILE_NAME), &text).unwrap();
    old.keep(&record(10));
    assert_eq!(dir.text(), text);
}

#[test]
fn a_clock_that_is_far_ahead_is_written_as_the_last_moment() {
    let dir = Dir::new();
    let (mut store, _) = dir.open(&[]);
    let wall = Duration::from_secs(400_000_000_000);
    store.keep(&LedgerRecord { at: wall, began: WALL, ..LedgerRecord::default() });
    assert!(dir.text().contains("\"at\": \"9999-12-31T23:59:59"), "{}", dir.text());
}

#[test]
fn a_directory_without_the_right_to_write_is_said() {
    let dir = Dir::new();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
    let opened = Store::open(dir.path(), Vec::new(), WALL);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    // Root may write there.
    if !rustix::process::geteuid().is_root() {
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("Permission denied"), "{error}");
    }
}
