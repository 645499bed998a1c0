//! What runs where: clusters, pods, addresses and files.

use std::env;
use std::path::{Path, PathBuf};

/// The Kubernetes namespace of the federated service and its clients.
pub const NAMESPACE: &str = "istio";
/// The Kubernetes namespace of the control plane and the gateways.
pub const SYSTEM: &str = "istio-system";
/// The registry, seen from every namespace of the mesh.
pub const REGISTRY: &str = "10.77.0.1:5000";
/// The user that Istio's proxies run as, whose own traffic is not captured.
pub const PROXY_UID: u32 = 1337;

/// A cluster. Each is a cluster of its own: its own etcd, API server, istiod and CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Where the clients are.
    Home,
    /// Where the surplus goes.
    Peer,
    /// Another peer, which runs only where it was asked for ([`crate::third`]).
    Third,
}

/// The two that always run, home first.
pub const CLUSTERS: [Cluster; 2] = [Cluster::Home, Cluster::Peer];

impl Cluster {
    /// Its word in names of files and namespaces.
    pub fn word(self) -> &'static str {
        match self {
            Cluster::Home => "home",
            Cluster::Peer => "peer",
            Cluster::Third => "third",
        }
    }

    /// Its name in the federation: the origin's two clusters, and another.
    pub fn name(self) -> &'static str {
        match self {
            Cluster::Home => "iotcloudserve",
            Cluster::Peer => "gke",
            Cluster::Third => "eks",
        }
    }

    /// The name of its network, where the two are one mesh.
    pub fn network(self) -> String {
        format!("{}-network", self.name())
    }

    fn subnet(self) -> u8 {
        match self {
            Cluster::Home => 1,
            Cluster::Peer => 2,
            Cluster::Third => 3,
        }
    }

    /// Address of its control plane.
    pub fn control_plane(self) -> String {
        self.address(1)
    }

    fn address(self, host: u8) -> String {
        format!("10.77.{}.{host}", self.subnet())
    }
}

/// What kind of workload a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A sidecar and no application: its namespace is where clients are started.
    Client,
    /// A sidecar in front of Istio's echo server.
    App,
    /// A gateway.
    Gateway,
}

/// A pod: a network namespace with an address, an object in the API server, and a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Where it runs.
    pub cluster: Cluster,
    /// Its name, the value of its label `app`, and its service account.
    pub name: &'static str,
    host: u8,
    /// What it is.
    pub role: Role,
}

impl PodSpec {
    /// Its Kubernetes namespace: gateways are with the control plane, as Istio's charts have them.
    pub fn kubernetes_namespace(&self) -> &'static str {
        match self.role {
            Role::Gateway => SYSTEM,
            Role::Client | Role::App => NAMESPACE,
        }
    }

    /// Its address.
    pub fn ip(&self) -> String {
        self.cluster.address(self.host)
    }
}

const fn pod(cluster: Cluster, name: &'static str, host: u8, role: Role) -> PodSpec {
    PodSpec {
        cluster,
        name,
        host,
        role,
    }
}

/// The client at home.
pub const CLIENT: PodSpec = pod(Cluster::Home, "client", 11, Role::Client);
/// The service at home.
pub const HOME_APP: PodSpec = pod(Cluster::Home, "a", 12, Role::App);
/// Home's own east-west gateway, by which a spilled request comes back from a dead peer.
pub const HOME_GATEWAY: PodSpec = pod(Cluster::Home, "eastwestgateway", 13, Role::Gateway);
/// Home's ingress gateway.
pub const INGRESS: PodSpec = pod(Cluster::Home, "ingressgateway", 14, Role::Gateway);
/// The service at the peer.
pub const PEER_APP: PodSpec = pod(Cluster::Peer, "a", 12, Role::App);
/// The peer's east-west gateway.
pub const PEER_GATEWAY: PodSpec = pod(Cluster::Peer, "eastwestgateway", 13, Role::Gateway);
/// Another client at home, with another identity.
pub const STRANGER: PodSpec = pod(Cluster::Home, "stranger", 15, Role::Client);

/// The service in the third cluster.
pub const THIRD_APP: PodSpec = pod(Cluster::Third, "a", 12, Role::App);
/// The third cluster's east-west gateway.
pub const THIRD_GATEWAY: PodSpec = pod(Cluster::Third, "eastwestgateway", 13, Role::Gateway);

/// The pods of the third cluster.
pub const THIRD_PODS: [PodSpec; 2] = [THIRD_APP, THIRD_GATEWAY];

/// All pods of the two clusters that always run.
pub const PODS: [PodSpec; 7] = [
    CLIENT,
    HOME_APP,
    HOME_GATEWAY,
    INGRESS,
    STRANGER,
    PEER_APP,
    PEER_GATEWAY,
];

/// Names of namespaces and files. There is one mesh on a machine, unless `$MESH` gives another a name of its own.
#[derive(Clone, Debug)]
pub struct Layout {
    prefix: String,
}

impl Layout {
    /// The layout of `$MESH`, by default `spill`.
    pub fn of_environment() -> Layout {
        let prefix = env::var("MESH").unwrap_or_else(|_| "spill".to_owned());
        Layout { prefix }
    }

    /// What the name of every namespace of this mesh begins with.
    pub fn prefix(&self) -> String {
        format!("{}-", self.prefix)
    }

    /// The network namespace of control planes and registry; the pods' bridge is in it.
    pub fn lab(&self) -> String {
        format!("{}-lab", self.prefix)
    }

    /// A pod's network namespace.
    pub fn namespace(&self, pod: &PodSpec) -> String {
        format!("{}-{}-{}", self.prefix, pod.cluster.word(), pod.name)
    }

    /// All that is written while it runs. Not in the checkout: Istio's proxies run as another user, who must be able to
    /// enter every folder on the way.
    pub fn dir(&self) -> PathBuf {
        Path::new("/tmp").join(format!("peer-spillover-mesh-{}", self.prefix))
    }

    /// What belongs to one cluster.
    pub fn cluster_dir(&self, cluster: Cluster) -> PathBuf {
        self.dir().join(cluster.word())
    }

    /// How kubectl reaches one cluster's API server.
    pub fn kubeconfig(&self, cluster: Cluster) -> PathBuf {
        self.cluster_dir(cluster).join("kubeconfig")
    }

    /// What belongs to one pod.
    pub fn pod_dir(&self, pod: &PodSpec) -> PathBuf {
        self.cluster_dir(pod.cluster).join(pod.name)
    }

    /// The programs, copied to where every user can run them.
    pub fn bin(&self) -> PathBuf {
        self.dir().join("bin")
    }
}
