//! The endpoint of Auto Scaling and CloudWatch: which call a request is, what it suffers, and its answer.
//!
//! Callers must sign ("AWS Signature Version 4"): the access key, the Region and the service in the scope are
//! checked, the signature itself is not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::calls::{Call, Outcome};
use super::faults::Fault;
use super::query::{ApiError, Parameters, Xml};
use super::{ACCESS_KEY, CALLER, Shared, autoscaling, cloudwatch, wording};

const PUT_METRIC_DATA: &str = "/service/GraniteServiceVersion20100801/operation/PutMetricData";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    AutoScaling,
    CloudWatch,
}

impl Service {
    /// Its name in IAM actions.
    fn prefix(self) -> &'static str {
        match self {
            Self::AutoScaling => "autoscaling",
            Self::CloudWatch => "cloudwatch",
        }
    }

    /// Its name in the scope of a signature.
    fn signing_name(self) -> &'static str {
        match self {
            Self::AutoScaling => "autoscaling",
            Self::CloudWatch => "monitoring",
        }
    }
}

pub async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                number += 1;
                connections.spawn(serve(stream, Arc::clone(&shared), number));
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, connection: u64) {
    stream.set_nodelay(true).unwrap();
    let service = service_fn(|request| answer(request, Arc::clone(&shared), connection));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// An error of the service is how hyper is told to cut the connection.
async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    connection: u64,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let now = shared.clock.now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let service =
        if head.uri.path().starts_with("/service/") { Service::CloudWatch } else { Service::AutoScaling };
    let (action, parameters) = match service {
        Service::CloudWatch => {
            let action = head.uri.path().rsplit('/').next().unwrap_or_default();
            let encoding = header("content-encoding");
            let parameters = encoding.map(|encoding| ("Content-Encoding".to_owned(), encoding.to_owned()));
            (action.to_owned(), Parameters(parameters.into_iter().collect()))
        }
        Service::AutoScaling => {
            let parameters = Parameters::parse(&body);
            (parameters.get("Action").unwrap_or_default().to_owned(), parameters)
        }
    };
    let call = shared.calls.begin(Call {
        action: action.clone(),
        parameters: parameters.0.clone(),
        at: now.mono,
        connection,
        outcome: Outcome::Open,
    });
    let (mut delay, fault) = shared.faults.take(&action);
    if fault == Some(Fault::CallLost) {
        shared.calls.end(call, Outcome::CallLost);
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the call is lost on purpose"));
    }
    let refused = fault.as_ref().and_then(|fault| {
        let resource = shared.change(|world| autoscaling::resource(world, &action, &parameters));
        fault.error(&format!("{}:{action}", service.prefix()), resource.as_deref(), CALLER)
    });
    let allowed = match refused {
        Some(error) => Err(error),
        None => signed(header("authorization"), service, &shared.region),
    };
    // Carried out before anything is waited for: a caller that gives up does not undo it.
    let result = allowed.and_then(|()| match service {
        Service::AutoScaling => {
            if action == "LaunchInstances" {
                delay += shared.launch_call(parameters.get("AutoScalingGroupName"));
            }
            shared.change(|world| autoscaling::perform(world, &action, &parameters, now)).map(Done::Xml)
        }
        Service::CloudWatch => {
            if head.uri.path() != PUT_METRIC_DATA {
                return Err(ApiError::sender("UnknownOperationException", "not known here"));
            }
            let plain = cloudwatch::inflate(&body, header("content-encoding"))?;
            shared.metrics.put(cloudwatch::data(&plain)?, now.mono, call);
            Ok(Done::Nothing)
        }
    });
    if delay > Duration::ZERO {
        sleep(delay).await;
    }
    let code = result.as_ref().err().map(|error| error.code.clone());
    if fault == Some(Fault::AnswerLost) {
        shared.calls.end(call, Outcome::AnswerLost { code });
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the answer is lost on purpose"));
    }
    let outcome = match &result {
        Ok(_) => Outcome::Done,
        Err(error) => Outcome::Failed { status: error.status, code: error.code.clone() },
    };
    shared.calls.end(call, outcome);
    let request_id = wording::uuid(&["request", &call.to_string()]);
    Ok(match service {
        Service::AutoScaling => respond_xml(&action, &request_id, &result),
        Service::CloudWatch => respond_cbor(&request_id, &result),
    })
}

enum Done {
    Xml(Xml),
    Nothing,
}

fn status(result: &Result<Done, ApiError>) -> StatusCode {
    let status = result.as_ref().err().map_or(200, |error| error.status);
    StatusCode::from_u16(status).unwrap()
}

fn respond_xml(action: &str, request_id: &str, result: &Result<Done, ApiError>) -> Response<Full<Bytes>> {
    let body = match result {
        Ok(Done::Xml(content)) => Xml::response(action, request_id, content),
        Ok(Done::Nothing) => Xml::response(action, request_id, &Xml::default()),
        Err(error) => error.to_xml(request_id),
    };
    Response::builder()
        .status(status(result))
        .header("content-type", "text/xml")
        .header("x-amzn-requestid", request_id)
        .body(Full::from(body))
        .unwrap()
}

fn respond_cbor(request_id: &str, result: &Result<Done, ApiError>) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(status(result))
        .header("content-type", "application/cbor")
        .header("smithy-protocol", "rpc-v2-cbor")
        .header("x-amzn-requestid", request_id);
    let body = match result {
        Ok(_) => cloudwatch::nothing(),
        Err(error) => {
            // The code as it was in the query protocol, for callers that know no other.
            let kind = if error.status < 500 { "Sender" } else { "Receiver" };
            response = response.header("x-amzn-query-error", format!("{};{kind}", error.code));
            cloudwatch::error(error)
        }
    };
    response.body(Full::from(body)).unwrap()
}

/// ("EC2 Auto Scaling API, Common Errors": MissingAuthenticationToken, InvalidClientTokenId, SignatureDoesNotMatch)
fn signed(authorization: Option<&str>, service: Service, region: &str) -> Result<(), ApiError> {
    let Some(authorization) = authorization else {
        let message = "Request is missing Authentication Token";
        return Err(ApiError::new(403, "MissingAuthenticationToken", message));
    };
    let scope = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
    let scope: Vec<&str> = scope.split(',').next().unwrap_or_default().split('/').collect();
    match scope[..] {
        [key, _, at, of, "aws4_request"] if key == ACCESS_KEY => {
            if at == region && of == service.signing_name() {
                return Ok(());
            }
            let message = format!("Credential should be scoped to a valid region and service: {at}/{of}");
            Err(ApiError::new(403, "SignatureDoesNotMatch", &message))
        }
        _ => {
            let message = "The security token included in the request is invalid.";
            Err(ApiError::new(403, "InvalidClientTokenId", message))
        }
    }
}
