use std::fs;
use std::sync::{Arc, Mutex};

use super::*;
use crate::reload::fixture::Folder;

/// What was loaded, in its order.
type Loads = Arc<Mutex<Vec<String>>>;

/// Watches, and loads the first path.
fn watching(watch: Watch) -> Loads {
    let (loads, path) = (Loads::default(), watch.paths[0].clone());
    let kept = loads.clone();
    tokio::spawn(watch.run(move || {
        let text = fs::read_to_string(&path);
        kept.lock().unwrap().push(text.as_ref().map_or_else(|error| error.kind().to_string(), Clone::clone));
        text
    }));
    loads
}

/// The files are real and the clock is not: each step lets the watch look once, and a step is over in no time.
async fn until(loads: &Loads, expected: &[&str]) {
    for _ in 0..100 {
        if *loads.lock().unwrap() == expected {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("{:?} and not {expected:?}", loads.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_in_place_and_what_is_renamed_are_seen() {
    let folder = Folder::new();
    let path = folder.write("keys", "one");
    let loads = watching(Watch::new(vec![path.clone()]));
    tokio::time::sleep(LOOK_EVERY * 5).await;
    until(&loads, &[]).await;
    folder.write("keys", "three");
    until(&loads, &["three"]).await;
    fs::rename(folder.write("new", "four!"), &path).unwrap();
    until(&loads, &["three", "four!"]).await;
    tokio::time::sleep(LOOK_EVERY * 5).await;
    until(&loads, &["three", "four!"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_points_elsewhere_is_a_change() {
    let folder = Folder::new();
    let (one, two) = (folder.write("1", "one"), folder.write("2", "two"));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(one, &link).unwrap();
    let loads = watching(Watch::new(vec![link.clone()]));
    let beside = folder.path().join("beside");
    std::os::unix::fs::symlink(two, &beside).unwrap();
    fs::rename(beside, link).unwrap();
    until(&loads, &["two"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_and_the_next_change_is_tried() {
    let folder = Folder::new();
    let path = folder.write("keys", "one");
    let loads = watching(Watch::new(vec![path.clone()]));
    fs::remove_file(&path).unwrap();
    until(&loads, &["entity not found"]).await;
    tokio::time::sleep(LOOK_EVERY * 5).await;
    folder.write("keys", "back");
    until(&loads, &["entity not found", "back"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_changed_before_the_watch_began_is_seen() {
    let folder = Folder::new();
    let watch = Watch::new(vec![folder.write("keys", "one")]);
    folder.write("keys", "between");
    let loads = watching(watch);
    until(&loads, &["between"]).await;
}

#[tokio::test(start_paused = true)]
async fn files_that_still_change_are_left_until_they_rest() {
    let folder = Folder::new();
    let path = folder.write("cert", "0");
    let key = folder.write("key", "0");
    let loads = watching(Watch::new(vec![path, key]));
    // The watch began its sleep before, so that it looks between two of these.
    tokio::time::sleep(LOOK_EVERY / 2).await;
    for step in 1..6 {
        folder.write(if step % 2 == 0 { "cert" } else { "key" }, &"x".repeat(step));
        tokio::time::sleep(LOOK_EVERY).await;
        assert!(loads.lock().unwrap().is_empty(), "step {step}");
    }
    until(&loads, &["xxxx"]).await;
}

#[test]
fn a_file_without_end_is_not_read() {
    assert_eq!(read(Path::new("/dev/zero"), 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    let folder = Folder::new();
    let path = folder.write("ten", "0123456789");
    assert_eq!(read(&path, 10).unwrap(), b"0123456789");
    assert_eq!(read(&path, 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}
