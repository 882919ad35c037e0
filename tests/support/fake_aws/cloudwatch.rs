//! CloudWatch's `PutMetricData`, in the protocol that the SDK speaks: CBOR over a POST for each operation.
//! ("Smithy, RPC v2 CBOR protocol"; "CloudWatch API, PutMetricData, MetricDatum")

use std::io::Read;

use aws_smithy_cbor::decode::DeserializeError;
use aws_smithy_cbor::{Decoder, Encoder, data::Type};
use flate2::read::GzDecoder;
use paddock::core::Mono;

use super::query::ApiError;

/// ("CloudWatch API, PutMetricData")
const BODY_BYTES_MAX: usize = 1024 * 1024;
const DATA_MAX: usize = 1000;
const VALUES_MAX: usize = 150;
const DIMENSIONS_MAX: usize = 30;

/// A datum as it was put.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Datum {
    pub namespace: String,
    pub name: String,
    /// In the order in which they came.
    pub dimensions: Vec<(String, String)>,
    pub value: Option<f64>,
    pub statistics: Option<Statistics>,
    /// With their counts: 1 each where none were given.
    pub values: Vec<(f64, f64)>,
    pub unit: Option<String>,
    /// In seconds: 1 or 60. What is not given is 60.
    pub storage_resolution: i32,
    /// Since the Unix epoch, in seconds.
    pub timestamp: Option<f64>,
    /// When the call came, on the fake's clock.
    pub received: Mono,
    /// Data that came with the same number came in one call.
    pub call: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    pub count: f64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Datum {
    /// The greatest value that it tells of.
    pub fn max(&self) -> f64 {
        let values = self.values.iter().map(|(value, _)| *value);
        values.chain(self.value).chain(self.statistics.map(|one| one.max)).fold(f64::MIN, f64::max)
    }

    pub fn dimension(&self, name: &str) -> Option<&str> {
        self.dimensions.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// The body as it was before it was compressed.
pub fn inflate(body: &[u8], encoding: Option<&str>) -> Result<Vec<u8>, ApiError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(ApiError::new(413, "RequestEntityTooLarge", "The request is larger than 1 MB."));
    }
    match encoding {
        None => Ok(body.to_vec()),
        Some("gzip") => {
            let mut plain = Vec::new();
            let read = GzDecoder::new(body).read_to_end(&mut plain);
            read.map(|_| plain).map_err(|error| ApiError::sender("MalformedInput", &error.to_string()))
        }
        Some(other) => Err(ApiError::sender("MalformedInput", &format!("unknown encoding {other}"))),
    }
}

/// The data of a call, checked as the documentation says. The messages are *assumed*.
pub fn data(body: &[u8]) -> Result<Vec<Datum>, ApiError> {
    let decoder = &mut Decoder::new(body);
    let mut namespace = String::new();
    let mut data = Vec::new();
    let malformed = |error: DeserializeError| ApiError::sender("SerializationException", &error.to_string());
    map(decoder, |decoder, key| match key {
        "Namespace" => decoder.string().map(|text| namespace = text),
        "MetricData" => list(decoder, |decoder| datum(decoder).map(|one| data.push(one))),
        _ => decoder.skip(),
    })
    .map_err(malformed)?;
    if namespace.is_empty() {
        return Err(ApiError::sender("MissingParameter", "The parameter Namespace is required."));
    }
    if namespace.starts_with("AWS/") {
        return Err(invalid("Namespace", "must not begin with AWS/"));
    }
    if data.is_empty() || data.len() > DATA_MAX {
        return Err(invalid("MetricData", "must have 1 to 1000 members"));
    }
    for datum in &mut data {
        datum.namespace.clone_from(&namespace);
        check(datum)?;
    }
    Ok(data)
}

fn invalid(what: &str, why: &str) -> ApiError {
    ApiError::sender("InvalidParameterValue", &format!("The value of parameter {what} {why}."))
}

fn check(datum: &Datum) -> Result<(), ApiError> {
    let statistics = datum.statistics.map(|one| [one.count, one.sum, one.min, one.max]);
    let numbers = datum.value.into_iter().chain(statistics.into_iter().flatten());
    let mut numbers = numbers.chain(datum.values.iter().map(|(value, _)| *value));
    let kinds = [datum.value.is_some(), datum.statistics.is_some(), !datum.values.is_empty()];
    if datum.name.is_empty() {
        return Err(invalid("MetricName", "must not be empty"));
    }
    if kinds.iter().filter(|is_given| **is_given).count() != 1 {
        return Err(ApiError::sender(
            "InvalidParameterCombination",
            "Exactly one of Value, StatisticValues and Values must be given.",
        ));
    }
    if numbers.any(|number| !number.is_finite()) {
        return Err(invalid("Value", "must be a number"));
    }
    if datum.values.len() > VALUES_MAX {
        return Err(invalid("Values", "must have 150 members at most"));
    }
    if datum.dimensions.len() > DIMENSIONS_MAX || datum.dimensions.iter().any(|(_, value)| value.is_empty()) {
        return Err(invalid("Dimensions", "must have 30 members at most, none of them empty"));
    }
    if ![1, 60].contains(&datum.storage_resolution) {
        return Err(invalid("StorageResolution", "must be 1 or 60"));
    }
    Ok(())
}

fn datum(decoder: &mut Decoder<'_>) -> Result<Datum, DeserializeError> {
    let mut datum = Datum { storage_resolution: 60, ..Datum::default() };
    let (mut values, mut counts) = (Vec::new(), Vec::new());
    map(decoder, |decoder, key| {
        match key {
            "MetricName" => datum.name = decoder.string()?,
            "Dimensions" => list(decoder, |decoder| {
                let (mut name, mut value) = (String::new(), String::new());
                map(decoder, |decoder, key| match key {
                    "Name" => decoder.string().map(|text| name = text),
                    "Value" => decoder.string().map(|text| value = text),
                    _ => decoder.skip(),
                })?;
                datum.dimensions.push((name, value));
                Ok(())
            })?,
            "Timestamp" => datum.timestamp = Some(decoder.timestamp()?.as_secs_f64()),
            "Value" => datum.value = Some(decoder.double()?),
            "StatisticValues" => datum.statistics = Some(statistics(decoder)?),
            "Values" => list(decoder, |decoder| decoder.double().map(|one| values.push(one)))?,
            "Counts" => list(decoder, |decoder| decoder.double().map(|one| counts.push(one)))?,
            "Unit" => datum.unit = Some(decoder.string()?),
            "StorageResolution" => datum.storage_resolution = decoder.integer()?,
            _ => decoder.skip()?,
        }
        Ok(())
    })?;
    counts.resize(values.len(), 1.0);
    datum.values = values.into_iter().zip(counts).collect();
    Ok(datum)
}

fn statistics(decoder: &mut Decoder<'_>) -> Result<Statistics, DeserializeError> {
    let mut set = Statistics::default();
    map(decoder, |decoder, key| {
        match key {
            "SampleCount" => set.count = decoder.double()?,
            "Sum" => set.sum = decoder.double()?,
            "Minimum" => set.min = decoder.double()?,
            "Maximum" => set.max = decoder.double()?,
            _ => decoder.skip()?,
        }
        Ok(())
    })?;
    Ok(set)
}

/// Reads a map of either kind, entry by entry.
fn map<'b>(
    decoder: &mut Decoder<'b>,
    mut entry: impl FnMut(&mut Decoder<'b>, &str) -> Result<(), DeserializeError>,
) -> Result<(), DeserializeError> {
    let mut left = decoder.map()?;
    while has_more(decoder, &mut left)? {
        let key = decoder.string()?;
        entry(decoder, &key)?;
    }
    Ok(())
}

/// Reads a list of either kind, member by member.
fn list<'b>(
    decoder: &mut Decoder<'b>,
    mut member: impl FnMut(&mut Decoder<'b>) -> Result<(), DeserializeError>,
) -> Result<(), DeserializeError> {
    let mut left = decoder.list()?;
    while has_more(decoder, &mut left)? {
        member(decoder)?;
    }
    Ok(())
}

fn has_more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, DeserializeError> {
    match left {
        Some(0) => Ok(false),
        Some(count) => {
            *count -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => decoder.skip().map(|()| false),
        None => Ok(true),
    }
}

/// The answer to a call that went well has no members.
pub fn nothing() -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.begin_map().end();
    encoder.into_writer()
}

pub fn error(error: &ApiError) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.begin_map();
    encoder.str("__type").str(&format!("com.amazonaws.cloudwatch#{}", error.code));
    encoder.str("message").str(&error.message);
    encoder.end();
    encoder.into_writer()
}
