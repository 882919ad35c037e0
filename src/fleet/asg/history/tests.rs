use aws_sdk_autoscaling::types::ScalingActivityStatusCode as Status;

use super::*;

fn activity(description: &str, began: i64, ended: Option<i64>, status: Status) -> Activity {
    Activity::builder()
        .description(description)
        .start_time(DateTime::from_secs(began))
        .set_end_time(ended.map(DateTime::from_secs))
        .status_code(status)
        .build()
}

fn told(activities: &[Activity]) -> Vec<(String, u64, Option<u64>)> {
    // AWS tells those in progress first, and then the latest.
    let mut as_told: Vec<Activity> = activities.iter().rev().cloned().collect();
    as_told.sort_by_key(|activity| activity.end_time().is_some());
    let lives = lives(GroupId(1), Duration::from_secs(100), as_told);
    assert!(lives.iter().all(|life| life.group == GroupId(1)));
    let told =
        |life: Life| (life.instance.to_string(), life.began.as_secs(), life.ended.map(|at| at.as_secs()));
    lives.into_iter().map(told).collect()
}

fn life(id: &str, began: u64, ended: Option<u64>) -> (String, u64, Option<u64>) {
    (id.to_owned(), began, ended)
}

#[test]
fn a_launch_and_an_end_are_a_life() {
    let activities = [
        activity("Launching a new EC2 instance: i-0a", 110, Some(140), Status::Successful),
        activity("Terminating EC2 instance: i-0old", 150, Some(190), Status::Successful),
        activity("Launching a new EC2 instance: i-0b", 200, Some(230), Status::Successful),
        activity("Terminating EC2 instance: i-0a", 300, Some(350), Status::Successful),
        activity("Launching a new EC2 instance: i-0c", 400, None, Status::PreInService),
    ];
    assert_eq!(
        told(&activities),
        [
            life("i-0old", 100, Some(190)),
            life("i-0a", 110, Some(350)),
            life("i-0b", 200, None),
            life("i-0c", 400, None)
        ]
    );
}

#[test]
fn an_end_that_is_not_over_or_failed_is_none() {
    let activities = [
        activity("Launching a new EC2 instance: i-0a", 110, Some(140), Status::Successful),
        activity("Terminating EC2 instance: i-0a", 200, None, Status::InProgress),
        activity("Launching a new EC2 instance: i-0b", 210, Some(240), Status::Successful),
        activity("Terminating EC2 instance: i-0b", 250, Some(251), Status::Cancelled),
    ];
    assert_eq!(told(&activities), [life("i-0a", 110, None), life("i-0b", 210, None)]);
}

#[test]
fn a_launch_that_was_given_up_lives_until_then_or_until_it_is_ended() {
    let failed =
        "Launching a new EC2 instance: i-0a.  Status Reason: Instance became unhealthy while waiting";
    let activities = [
        activity("Launching a new EC2 instance.  Status Reason: no capacity", 105, Some(106), Status::Failed),
        activity(failed, 110, Some(140), Status::Cancelled),
        activity("Launching a new EC2 instance: i-0b", 200, Some(230), Status::Cancelled),
        activity("Terminating EC2 instance: i-0b", 229, Some(260), Status::Successful),
    ];
    assert_eq!(told(&activities), [life("i-0a", 110, Some(140)), life("i-0b", 200, Some(260))]);
}

#[test]
fn an_instance_in_the_warm_pool_does_not_live() {
    let activities = [
        activity("Launching a new EC2 instance into warm pool: i-0a", 110, Some(140), Status::Successful),
        activity("Launching a new EC2 instance from warm pool: i-0a", 200, Some(205), Status::Successful),
        activity("Terminating EC2 instance into warm pool: i-0a", 300, Some(320), Status::Successful),
        activity("Terminating EC2 instance from warm pool: i-0a", 900, Some(920), Status::Successful),
        activity("Launching a new EC2 instance from warm pool: i-0a", 950, None, Status::PreInService),
    ];
    assert_eq!(told(&activities), [life("i-0a", 200, Some(320)), life("i-0a", 950, None)]);
}

#[test]
fn an_instance_on_standby_lives() {
    let activities = [
        activity("Launching a new EC2 instance: i-0a", 110, Some(140), Status::Successful),
        activity("Moving EC2 instance to Standby: i-0a", 500, Some(501), Status::Successful),
        activity("Moving EC2 instance to Standby: i-0b", 510, Some(511), Status::Successful),
        activity("Moving EC2 instance out of Standby: i-0b", 600, Some(601), Status::Successful),
        activity("Terminating EC2 instance: i-0b", 700, Some(720), Status::Successful),
    ];
    assert_eq!(told(&activities), [life("i-0b", 100, Some(720)), life("i-0a", 110, None)]);
}

#[test]
fn an_end_that_follows_an_end_is_the_same_one() {
    let activities = [
        activity("Launching a new EC2 instance: i-0a", 110, Some(140), Status::Successful),
        activity("Terminating EC2 instance: i-0a", 200, None, Status::InProgress),
        activity("Terminating EC2 instance: i-0a", 210, Some(230), Status::Successful),
        activity("Detaching EC2 instance: i-0b", 300, Some(310), Status::Successful),
        activity("Terminating EC2 instance: i-0b", 320, Some(330), Status::Successful),
    ];
    assert_eq!(told(&activities), [life("i-0b", 100, Some(310)), life("i-0a", 110, Some(230))]);
}

#[test]
fn an_end_in_progress_is_told_before_the_launch_that_it_follows() {
    let activities = [
        activity("Launching a new EC2 instance: i-0a", 110, Some(140), Status::Successful),
        activity("Terminating EC2 instance: i-0b", 150, None, Status::InProgress),
        activity("Launching a new EC2 instance: i-0c", 150, Some(170), Status::Successful),
        activity("Terminating EC2 instance: i-0c", 180, None, Status::InProgress),
    ];
    assert_eq!(
        told(&activities),
        [life("i-0b", 100, None), life("i-0a", 110, None), life("i-0c", 150, None)]
    );
}
