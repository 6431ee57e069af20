//! `CONNECT`: a node opens the stream over which it is reached. Whose it is, is who it is: nobody speaks for another node.

use edgek_api::status::{About, Status};
use edgek_apiserver_authz::node_name;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{Body, empty};
use crate::error::Rejection;
use crate::route::Call;

/// Hands the stream that follows the answer to whoever dials nodes.
pub(crate) fn open(mut call: Call<'_>) -> Result<Response<Body>, Rejection> {
    let user = call.authorized.user();
    let Some(node) = node_name(user).map(str::to_owned) else {
        let text = format!("user {:?} is not a node", user.name);
        return Err(Status::forbidden(About::default(), text).into());
    };
    let Some(upgrade) = call.parts.extensions.remove::<OnUpgrade>() else {
        return Err(Status::bad_request("this connection cannot carry a tunnel").into());
    };
    let server = call.server.clone();
    call.server.scope.spawn("tunnel", async move {
        if let Ok(stream) = upgrade.await {
            server.dial.accept(&node, Box::new(TokioIo::new(stream)));
        }
    });
    Ok(Response::new(empty()))
}
