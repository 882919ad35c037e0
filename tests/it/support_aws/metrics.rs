//! What is put to CloudWatch.

use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::operation::put_metric_data::builders::PutMetricDataFluentBuilder;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::builders::MetricDatumBuilder;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit, StatisticSet};

use crate::support::fake_aws::{FakeAws, FakeAwsConfig, Fault, Statistics};

async fn start() -> (FakeAws, Client) {
    let fake = FakeAws::start(FakeAwsConfig::default()).await;
    let once = aws_config::retry::RetryConfig::disabled();
    let client = Client::new(&fake.sdk_config().await.into_builder().retry_config(once).build());
    (fake, client)
}

fn datum(name: &str) -> MetricDatumBuilder {
    let pool = Dimension::builder().name("pool").value("default").build();
    MetricDatum::builder().metric_name(name).dimensions(pool).storage_resolution(1)
}

fn put(client: &Client, datum: MetricDatumBuilder) -> PutMetricDataFluentBuilder {
    client.put_metric_data().namespace("paddock").metric_data(datum.build())
}

#[tokio::test]
async fn what_is_put_can_be_read_with_its_dimensions_and_its_time() {
    let (fake, client) = start().await;
    let before = fake.clock().mono();
    let buffered = datum("requests_buffered").value(3.5).unit(StandardUnit::Count);
    let set = StatisticSet::builder().sample_count(2.0).sum(5.0).minimum(1.0).maximum(4.0).build();
    let slots = MetricDatum::builder().metric_name("slots_total").statistic_values(set);
    let idle =
        MetricDatum::builder().metric_name("slots_idle").values(1.0).values(7.0).counts(2.0).counts(1.0);
    put(&client, buffered.timestamp(DateTime::from_secs_f64(1_700_000_000.5)))
        .metric_data(slots.build())
        .metric_data(idle.build())
        .send()
        .await
        .unwrap();
    let buffered = &fake.metric("requests_buffered")[0];
    assert_eq!((buffered.namespace.as_str(), buffered.dimension("pool")), ("paddock", Some("default")));
    assert_eq!((buffered.value, buffered.storage_resolution), (Some(3.5), 1));
    assert_eq!((buffered.unit.as_deref(), buffered.timestamp), (Some("Count"), Some(1_700_000_000.5)));
    assert!(before <= buffered.received && buffered.received <= fake.clock().mono());
    let slots = &fake.metric("slots_total")[0];
    assert_eq!(slots.statistics, Some(Statistics { count: 2.0, sum: 5.0, min: 1.0, max: 4.0 }));
    assert_eq!((slots.storage_resolution, slots.call, slots.max()), (60, buffered.call, 4.0));
    assert_eq!(
        (&fake.metric("slots_idle")[0].values[..], fake.metrics().len()),
        (&[(1.0, 2.0), (7.0, 1.0)][..], 3)
    );
}

#[tokio::test]
async fn compressed_bodies_are_understood() {
    let (fake, client) = start().await;
    let data = (0..400).map(|number| datum(&format!("metric_{number}")).value(f64::from(number)).build());
    client.put_metric_data().namespace("paddock").set_metric_data(Some(data.collect())).send().await.unwrap();
    assert_eq!(fake.calls()[0].parameter("Content-Encoding"), "gzip");
    assert_eq!((fake.metrics().len(), fake.metric("metric_399")[0].value), (400, Some(399.0)));
}

#[tokio::test]
async fn what_cloudwatch_would_refuse_is_refused() {
    let (fake, client) = start().await;
    let many = (0..151).fold(datum("m"), |datum, _| datum.values(1.0));
    let refused = [
        (put(&client, datum("m").value(1.0)).namespace("AWS/EC2"), "InvalidParameterValue"),
        (put(&client, datum("m").value(f64::NAN)), "InvalidParameterValue"),
        (put(&client, datum("m").value(1.0).storage_resolution(10)), "InvalidParameterValue"),
        (put(&client, datum("m").value(1.0).values(1.0)), "InvalidParameterCombination"),
        (put(&client, datum("m")), "InvalidParameterCombination"),
        (put(&client, many), "InvalidParameterValue"),
        (
            client.put_metric_data().namespace("paddock").set_metric_data(Some(vec![])),
            "InvalidParameterValue",
        ),
    ];
    for (call, code) in refused {
        let error = call.send().await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error:?}");
    }
    assert!(fake.metrics().is_empty());
}

#[tokio::test]
async fn a_failing_or_slow_cloudwatch_is_seen_as_such() {
    let (fake, client) = start().await;
    let action = Some("PutMetricData");
    for (fault, code) in [(Fault::Throttled, "Throttling"), (Fault::AccessDenied, "AccessDenied")] {
        fake.inject(action, fault, Some(1));
        let error = put(&client, datum("m").value(1.0)).send().await.unwrap_err();
        assert_eq!(error.code(), Some(code));
    }
    assert!(fake.metrics().is_empty());
    fake.inject(action, Fault::Slow(Duration::from_millis(50)), Some(1));
    let before = fake.clock().mono();
    put(&client, datum("m").value(1.0)).send().await.unwrap();
    assert!(fake.clock().mono().since(before) >= Duration::from_millis(50));
    assert_eq!(fake.metrics().len(), 1);
}
