// SPDX-License-Identifier: Apache-2.0
//! Every metric name once. Counters get their `_total` from the text format. A name, once released, stays.

/// Calls that ended. Labels: side, protocol, outcome.
pub const CALLS: &str = "remora_calls";
/// Time from request to reply, in seconds. Labels: side, protocol.
pub const CALL_DURATION: &str = "remora_call_duration_seconds";
/// Calls waiting for their reply. Labels: side, protocol.
pub const CALLS_IN_FLIGHT: &str = "remora_calls_in_flight";
/// Replies made by Remora in the provider's place. Labels: side, protocol, reason.
pub const LOCAL_REPLIES: &str = "remora_local_replies";
/// Frames not passed on. Labels: side, protocol, reason.
pub const FRAMES_DROPPED: &str = "remora_frames_dropped";
/// Calls tried on a further instance. Labels: side, protocol.
pub const RETRIES: &str = "remora_retries";
/// Instances left alone after a failure. Labels: side, protocol, reason (`unreachable`, `nothing_sent`, `lost`, `silent`).
/// On the page from the first one on.
pub const EJECTIONS: &str = "remora_ejections";
/// Bytes from downstream peers. Labels: side, protocol.
pub const BYTES_IN: &str = "remora_bytes_in";
/// Bytes to downstream peers. Labels: side, protocol.
pub const BYTES_OUT: &str = "remora_bytes_out";
/// Open connections that came to us. Labels: side, protocol.
pub const DOWNSTREAM_CONNECTIONS: &str = "remora_downstream_connections";
/// Open connections that we opened. Labels: side, protocol.
pub const UPSTREAM_CONNECTIONS: &str = "remora_upstream_connections";
/// Bytes held of frames that are read in part, of each its beginning of more than 8 KiB. Labels: side, protocol.
pub const HALF_READ: &str = "remora_half_read_bytes";
/// Connections closed. Labels: side, protocol, reason.
pub const CONNECTIONS_CLOSED: &str = "remora_connections_closed";
/// Connections closed at accept. Labels: side, protocol, reason (`foreign`: another host at an egress, `max_connections`,
/// `ingress_share`, `per_address`, `busy`). On the page from the first one on.
pub const CONNECTIONS_REFUSED: &str = "remora_connections_refused";

// Discovery.

/// 1 while a registry is reachable; label `registry`.
pub const REGISTRY_UP: &str = "remora_registry_up";
/// Applications at the facades.
pub const LEASES: &str = "remora_discovery_leases";
/// Instances that applications here publish.
pub const PUBLICATIONS: &str = "remora_discovery_publications";
/// Lists that are followed.
pub const LISTS: &str = "remora_discovery_lists";
/// Instances in the followed lists.
pub const INSTANCES: &str = "remora_discovery_instances";
/// Service keys with a route.
pub const ROUTES: &str = "remora_discovery_routes";
/// Entries of followed lists that cannot be read.
pub const MALFORMED: &str = "remora_discovery_malformed_instances";
/// Instances that are not dialled; label `reason`.
pub const REFUSED: &str = "remora_discovery_refused_instances";
/// Instances held although the registry lost them.
pub const HELD: &str = "remora_discovery_held_instances";
/// Lists that collapsed and were held.
pub const COLLAPSES: &str = "remora_discovery_collapses";
/// Rules kept from applications and not applied.
pub const RULES_NOT_APPLIED: &str = "remora_discovery_rules_not_applied";
/// Publications; label `outcome`. On the page from the first one on.
pub const PUBLISH: &str = "remora_discovery_publish";
/// Publications and lists of applications here, by what the takeover policy decides; labels `side` (`provider`, `consumer`)
/// and `decision` (`taken_over`, `observed`, `rolled_back`, `not_allowed`, `denied`, `other_side`, `not_in_percent`, `withdrawn`).
pub const TAKEOVER: &str = "remora_discovery_takeover";
/// Publications of applications here that lead to our ingress in a registry.
pub const LEADS_HERE: &str = "remora_discovery_publications_at_ingress";
/// Publications that Remora keeps in a registry itself; labels `registry` and `state` (`waiting`, `published`, `refused`,
/// `withdrawing`).
pub const KEPT: &str = "remora_discovery_kept_publications";
/// What Remora asked of registries for them; label `outcome`. On the page from the first one on.
pub const KEPT_OPERATIONS: &str = "remora_discovery_kept_operations";
/// Fetches of application metadata; label `outcome`. On the page from the first one on.
pub const METADATA: &str = "remora_discovery_metadata_fetches";
/// Writes of the last known lists; label `outcome`. On the page from the first one on.
pub const SNAPSHOT_WRITES: &str = "remora_discovery_snapshot_writes";
/// 1 while the last known lists on disk are those in memory; 0: they could not be written, an alert; label `registry`.
pub const SNAPSHOT_KEPT: &str = "remora_discovery_snapshot_kept";
/// Time to take a changed list into the routes.
pub const REBUILD: &str = "remora_discovery_rebuild_seconds";

// Facades; labels `registry` and `facade`.

/// Connections of applications open now; labels `registry` and `facade`, as on all of the facades.
pub const FACADE_CONNECTIONS: &str = "remora_facade_connections";
/// Sessions of applications known now. ZooKeeper.
pub const FACADE_SESSIONS: &str = "remora_facade_sessions";
/// Requests; label `way` says how they were served (`relayed`, `owned`, `local`; ZooKeeper, SOFARegistry) or what they asked
/// for (`publish`, `unpublish`, `subscribe`, `unsubscribe`, `heartbeat`; mesh, dubbod).
pub const FACADE_REQUESTS: &str = "remora_facade_requests";
/// Connections of applications that started while the registry was away and are served from what is known; ZooKeeper.
pub const FACADE_STAND_INS: &str = "remora_facade_stand_ins";
/// Nodes (mappings, metadata, settings, rules) of which a last known copy is kept for an outage; ZooKeeper.
pub const FACADE_COPIES: &str = "remora_facade_copies";
/// Times such a copy was shown to an application that started while the registry was away; ZooKeeper.
pub const FACADE_COPIES_SHOWN: &str = "remora_facade_copies_shown";
/// Nodes that such applications wrote, and that the registry is not told of yet; ZooKeeper.
pub const FACADE_OWED: &str = "remora_facade_owed";
/// Published nodes that were gone and were made again; ZooKeeper.
pub const FACADE_RESTORED: &str = "remora_facade_restored";
/// Watch events (ZooKeeper) and pushes (SOFARegistry) made by the facade.
pub const FACADE_EVENTS: &str = "remora_facade_events";
/// Pushes that were not taken in time, and made again. SOFARegistry.
pub const FACADE_PUSH_FAILURES: &str = "remora_facade_push_failures";
/// Connections closed by the facade; label `reason` (`malformed`, `refused`, `slow_reader`, `idle`, `denied`: by `access`,
/// `made_way`: silent, for others). ZooKeeper, SOFARegistry.
pub const FACADE_CLOSED: &str = "remora_facade_closed";
/// Times the real registry could not be reached, or was lost, for an application's session. ZooKeeper.
pub const FACADE_UPSTREAM_FAILURES: &str = "remora_facade_upstream_failures";
/// Requests that were refused; label `reason`. All but ZooKeeper.
pub const FACADE_REFUSED: &str = "remora_facade_refused";
/// Registrations of applications kept now; label `state` (`waiting`, `published`, `away`, `refused`). All but ZooKeeper.
pub const FACADE_REGISTRATIONS: &str = "remora_facade_registrations";
/// What applications follow now; label `what` (`list`, `rules`). All but ZooKeeper.
pub const FACADE_FOLLOWS: &str = "remora_facade_follows";
/// Registrations that the facade took back by itself; label `reason` (`port_closed`, `lease_expired`, `connection_lost`). All
/// but ZooKeeper.
pub const FACADE_LOST: &str = "remora_facade_lost";
/// Registrations that came back on a new connection in time. SOFARegistry.
pub const FACADE_RESUMED: &str = "remora_facade_resumed";
/// Looks at a published application's port that found it closed. Mesh and dubbod.
pub const FACADE_PROBES_FAILED: &str = "remora_facade_probes_failed";
/// Times that registrations could not be written to disk. Mesh and dubbod.
pub const FACADE_STORE_FAILURES: &str = "remora_facade_store_failures";

// The process.

/// Version of Remora; always 1, label `version`.
pub const BUILD_INFO: &str = "remora_build_info";
/// 1 while new work may be sent here.
pub const READY: &str = "remora_ready";
/// Memory, in bytes.
pub const PROCESS_RESIDENT_MEMORY: &str = "process_resident_memory_bytes";
/// Open file descriptors.
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
/// CPU time, in seconds.
pub const PROCESS_CPU: &str = "process_cpu_seconds";
/// When the process started, in seconds since 1970.
pub const PROCESS_START_TIME: &str = "process_start_time_seconds";

// Configuration.

/// Reloads of the configuration; label `outcome` (`unchanged`, `applied`, `refused`).
pub const RELOADS: &str = "remora_reloads";
/// 1 unless the configuration was refused when it was last read; what ran before it goes on.
pub const CONFIG_VALID: &str = "remora_config_valid";
/// Keys of the configuration whose new values wait for a restart or an upgrade.
pub const CONFIG_WAITING: &str = "remora_config_keys_waiting";
