use std::fs;
use std::process::Command;

use tempfile::TempDir;
use tokio::time::advance;

use super::*;
use crate::core::{Config, PoolConfig};

const POOL: PoolId = PoolId(0);

/// Whoever reads a FIFO that nobody writes waits, as for a disk that hangs.
#[tokio::test(start_paused = true)]
async fn on_a_disk_that_hangs_one_write_waits() {
    let dir = TempDir::with_prefix("paddock-ledger-").unwrap();
    let clock = Clock::start();
    let (store, _) = open(dir.path(), Vec::new(), clock).unwrap();
    let file = dir.path().join(FILE_NAME);
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let gate = Gate::new(Config::default(), [(POOL, PoolConfig::default())].into(), clock);
    let keeper = Keeper::new(store, gate, POOL, clock);
    for _ in 0..3 {
        let keeping = async {
            keeper.keep().await;
            true
        };
        let time = async {
            // The clock does not advance by itself while a thread works.
            while Arc::strong_count(&keeper.store) < 2 {
                tokio::task::yield_now().await;
            }
            loop {
                advance(Duration::from_secs(1)).await;
            }
        };
        assert!(tokio::select! { kept = keeping => kept, () = time => false }, "it is left to itself");
    }
    assert_eq!(Arc::strong_count(&keeper.store), 2, "the keeper's own, and the one that writes");
    // The disk is back.
    fs::write(&file, "").unwrap();
    fs::remove_file(&file).unwrap();
    while Arc::strong_count(&keeper.store) > 1 {
        tokio::task::yield_now().await;
    }
    keeper.keep().await;
}
