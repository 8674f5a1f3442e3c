//! Connections to the API server: one for all calls, and one for each watch.

use hyper_rustls::HttpsConnectorBuilder;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{Config, client::ConfigExt as _};
use tower::{BoxError, ServiceBuilder};

use crate::limits;

/// For calls that are answered at once. They share a connection, by HTTP/2 where the API server speaks it: fifty streams that move
/// together wait for no handshake, and no fifty connections are kept after them. Calls have their deadlines where they are made; a
/// connection that is silent is closed, so that a later call finds another.
pub(crate) fn calls() -> Result<kube::Client, String> {
    let config = config()?;
    let text = |error: kube::Error| error.to_string();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config().map_err(text)?);
    let tls = tls.https_or_http().enable_all_versions().wrap_connector(tcp);
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(Some(limits::API_CALL));
    let client = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Without it, idle connections of an API server that speaks HTTP/1.1 alone would be kept for ever.
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(limits::API_PING)
        .http2_keep_alive_timeout(limits::API_CALL)
        .http2_keep_alive_while_idle(true)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(text)?)
        .map_err(BoxError::from)
        .service(client);
    Ok(kube::Client::new(service, config.default_namespace))
}

/// For lists and watches, each of which has a connection while it lasts: what they bring in keeps no call waiting.
pub(super) fn watches() -> Result<kube::Client, String> {
    let mut config = config()?;
    config.connect_timeout = Some(limits::API_CALL);
    // A watch is silent for as long as nothing happens.
    config.read_timeout = Some(limits::WATCH_SILENCE);
    kube::Client::try_from(config).map_err(|error| error.to_string())
}

/// The rights of the pod that this runs in. No kubeconfig: its readers are a tenth of the binary, and an operator outside of its cluster
/// reaches no worker's health port.
fn config() -> Result<Config, String> {
    Config::incluster().map_err(|error| error.to_string())
}
