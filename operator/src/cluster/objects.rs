//! Objects of the API server, into what the planner takes. One that can't be read hides no other.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Node, Secret},
    networking::v1::ServiceCIDR,
};
use kube::{
    Client, ResourceExt as _,
    api::{Api, DynamicObject},
    core::ApiResource,
};
use operator_core::{
    api::{self, MediaStream, MediaStreamStatus, PortPool, convert},
    event::NodeObject,
    ids::{NodeName, ObjectName, ServiceCidrName},
    spec::{PoolObject, StreamObject},
};
use serde::Deserialize;

use crate::yaml;

/// Where publishers and players reach a node, best first, comma-separated: goes before what its status says.
const ADDRESSES_ANNOTATION: &str = "media.penstock.dev/addresses";

/// MediaStreams as they come, of one namespace or of all.
pub(super) fn streams(client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<MediaStream>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind),
        None => Api::all_with(client, &kind),
    }
}

/// PortPools as they come.
pub(super) fn pools(client: Client) -> Api<DynamicObject> {
    Api::all_with(client, &ApiResource::erase::<PortPool>(&()))
}

/// A MediaStream; refused by name where it does not read as one.
pub(super) fn stream(object: &DynamicObject) -> StreamObject {
    match Parts::deserialize(&object.data) {
        Ok(Parts { spec, status }) => {
            convert::stream_object(&MediaStream { metadata: object.metadata.clone(), spec, status })
        }
        Err(error) => {
            let status = object.data.get("status").and_then(|it| MediaStreamStatus::deserialize(it).ok());
            convert::unreadable_stream(&object.metadata, status.as_ref(), &error.to_string())
        }
    }
}

/// A PortPool; refused by name where it does not read as one.
pub(super) fn pool(object: &DynamicObject) -> PoolObject {
    match Parts::deserialize(&object.data) {
        Ok(Parts { spec, status }) => {
            convert::pool_object(&PortPool { metadata: object.metadata.clone(), spec, status })
        }
        Err(error) => convert::unreadable_pool(&object.metadata, &error.to_string()),
    }
}

/// An object without its metadata, which every kind has alike.
#[derive(Deserialize)]
struct Parts<Spec, Status> {
    spec: Spec,
    status: Option<Status>,
}

/// A node.
pub(super) fn node(node: &Node) -> NodeObject {
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
    let labels = node.labels().iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let of_type = |wanted: &str| {
        let all = status.addresses.iter().flatten();
        let found = all.filter(|it| it.type_ == wanted).map(|it| Arc::from(it.address.as_str()));
        found.collect::<Vec<Arc<str>>>()
    };
    let annotated = node.annotations().get(ADDRESSES_ANNOTATION).map(|text| {
        text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(Arc::from).collect::<Vec<Arc<str>>>()
    });
    let own = ["InternalIP", "ExternalIP"].map(of_type).concat();
    let pods = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    let addresses = annotated
        .filter(|all| !all.is_empty())
        .unwrap_or_else(|| [of_type("ExternalIP"), of_type("InternalIP")].concat());
    NodeObject {
        name: NodeName::from(node.name_any()),
        labels: labels.collect::<BTreeMap<_, _>>(),
        ready,
        unschedulable: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default(),
        addresses,
        own: own.iter().filter_map(|address| address.parse::<IpAddr>().ok()).collect(),
        pods: networks(pods),
    }
}

/// A ServiceCIDR. One that is to go is there until no Service has an address of it.
pub(super) fn service_cidr(object: &ServiceCIDR) -> (ServiceCidrName, Vec<IpNet>) {
    let networks = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    (ServiceCidrName::from(object.name_any()), self::networks(networks))
}

/// The API server has seen to it that each can be read.
fn networks<'a>(cidrs: impl Iterator<Item = &'a String>) -> Vec<IpNet> {
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// A Secret with tokens: only digests of them are kept. One that holds none lets nobody in.
pub(super) fn secret(secret: &Secret) -> (ObjectName, Arc<[[u8; 32]]>) {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or(api::DEFAULT_NAMESPACE);
    let name = ObjectName::new(namespace, secret.name_any());
    let text = secret.data.as_ref().and_then(|data| data.get(api::TOKEN_SECRET_KEY));
    let tokens = yaml::token_sha256(text.map(|text| text.0.as_slice()));
    if let Err(problem) = &tokens {
        tracing::warn!(secret = %name, "nobody is let in: {problem}");
    }
    (name, tokens.unwrap_or_default())
}

#[cfg(test)]
mod tests;
