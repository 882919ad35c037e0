//! The account of what was put to CloudWatch.

use std::sync::Mutex;

use paddock::core::Mono;

use super::cloudwatch::Datum;

#[derive(Debug, Default)]
pub struct Metrics(Mutex<Vec<Datum>>);

impl Metrics {
    /// Keeps the data of one call.
    pub fn put(&self, data: Vec<Datum>, received: Mono, call: usize) {
        let data = data.into_iter().map(|datum| Datum { received, call, ..datum });
        self.0.lock().unwrap().extend(data);
    }

    pub fn all(&self) -> Vec<Datum> {
        self.0.lock().unwrap().clone()
    }
}
