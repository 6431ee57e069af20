//! Requests that a node answers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use edgek_apiserver_http::{BoxedIo, Dial, Target};
use edgek_base_lifecycle::Scope;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use support::Test;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PODS: &str = "/api/v1/namespaces/a/pods";

/// A kubelet that tells what it was asked, repeats what `/echo` was sent, echoes upgraded streams and fails logs of the container `broken`.
struct Kubelet(Scope);

#[async_trait]
impl Dial for Kubelet {
    async fn dial(&self, target: Target) -> io::Result<BoxedIo> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let scope = self.0.clone();
        let service = service_fn(move |request| answer(scope.clone(), target.clone(), request));
        self.0.spawn("kubelet", async move {
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
            let _ = connection.with_upgrades().await;
        });
        Ok(Box::new(ours))
    }
}

async fn answer(
    scope: Scope,
    target: Target,
    mut request: Request<Incoming>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    if request.headers().contains_key("upgrade") {
        scope.spawn("echo", async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        });
        let response =
            Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
        return Ok(response.body(Full::default()).unwrap());
    }
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    if path.starts_with("/echo") {
        let header = |name: &str| {
            let value = request.headers().get(name).map(|value| value.to_str().unwrap());
            format!("{name}: {}", value.unwrap_or("none"))
        };
        let head =
            format!("{} {path} {}, {}\n", request.method(), header("x-own"), header("impersonate-user"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        return Ok(Response::new(Full::from([head.as_bytes(), &body].concat())));
    }
    let authorization = request.headers().contains_key("authorization");
    let code = if path.contains("broken") { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let text = if path.contains("broken") {
        "container \"broken\" is waiting\n".to_owned()
    } else {
        format!("{target:?} {path} {authorization}")
    };
    Ok(Response::builder().status(code).body(Full::from(text)).unwrap())
}

async fn start() -> Test {
    let test = Test::reaching(Arc::new(Kubelet(Scope::root()))).await;
    for (name, node) in [("p", json!("n")), ("unbound", json!(null))] {
        let containers = json!([{"name": "c", "image": "x", "ports": [{"containerPort": 81}]}, {"name": "broken", "image": "x"}]);
        test.create(
            PODS,
            json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers}}),
        )
        .await;
    }
    test.merge(&format!("{PODS}/p/status"), json!({"status": {"podIP": "10.42.0.5"}})).await;
    test
}

#[tokio::test]
async fn logs_and_proxies_go_where_they_are_answered() {
    let test = start().await;
    let ask = async |path: &str| {
        let answer = test.send("GET", path, &[("authorization", "Bearer secret")], "").await;
        (answer.code.as_u16(), String::from_utf8(answer.bytes).unwrap())
    };
    assert_eq!(
        ask(&format!("{PODS}/p/log?container=c&follow=true&tailLines=5")).await,
        (200, "Kubelet { node: \"n\" } /containerLogs/a/p/c?follow=true&tailLines=5 false".to_owned())
    );
    assert_eq!(
        ask(&format!("{PODS}/p:81/proxy/x/y?z=1")).await,
        (200, "Tcp { node: \"n\", host: \"10.42.0.5\", port: 81 } /x/y?z=1 false".to_owned())
    );
    assert_eq!(ask(&format!("{PODS}/unbound/log?container=c")).await, (200, String::new()));
    test.create("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    assert_eq!(
        ask("/api/v1/nodes/n/proxy/healthz").await,
        (200, "Kubelet { node: \"n\" } /healthz false".to_owned())
    );
    assert_eq!(
        test.send("GET", "/api/v1/nodes/n/proxy", &[], "").await.headers["location"],
        "/api/v1/nodes/n/proxy/"
    );
}

#[tokio::test]
async fn a_proxied_request_arrives_as_it_was_sent() {
    let test = start().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let headers = [("authorization", "Bearer secret"), ("x-own", "mine"), ("impersonate-user", "joe")];
        let answer = test.send(method, &format!("{PODS}/p:81/proxy/echo?a=b"), &headers, "the body").await;
        let text = String::from_utf8(answer.bytes).unwrap();
        assert_eq!(text, format!("{method} /echo?a=b x-own: mine, impersonate-user: none\nthe body"));
    }
}

#[tokio::test]
async fn what_a_node_refuses_is_told_in_the_apis_words() {
    let test = start().await;
    let message = async |path: &str| {
        let answer = test.send("GET", path, &[], "").await;
        (answer.code.as_u16(), answer.json()["message"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        message(&format!("{PODS}/p/log?container=broken")).await,
        (400, "container \"broken\" is waiting".to_owned())
    );
    assert_eq!(
        message(&format!("{PODS}/p/log?container=none")).await,
        (400, "container none is not valid for pod p".to_owned())
    );
    assert_eq!(
        message(&format!("{PODS}/p/log")).await,
        (400, "a container name must be specified for pod p, choose one of: [c broken]".to_owned())
    );
    assert_eq!(
        message(&format!("{PODS}/unbound/exec?container=c&command=ls")).await,
        (400, "pod unbound does not have a host assigned".to_owned())
    );
    assert_eq!(message(&format!("{PODS}/none/log")).await, (404, "pods \"none\" not found".to_owned()));
}

#[tokio::test]
async fn an_upgraded_stream_passes_through_both_ways() {
    let test = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, scope) = (test.server.clone(), test.scope.clone());
    test.scope.spawn("server", async move { server.serve(listener, None, scope).await });
    let request = format!(
        "POST {PODS}/p/exec?container=c&command=cat&stdin=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    client.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    client.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}
