//! The knobs that the connections of servers and clients have in common.

/// The engine's own words for the fields that both configurations have, under the same names.
macro_rules! connection_config {
    ($config:expr) => {
        $crate::engine::config::ConnectionConfig {
            send_queue_limit_bytes: $config.send_queue_limit_bytes,
            timeouts: $crate::engine::config::Timeouts {
                idle_ms: $config.idle_timeout_ms,
                first_byte_ms: $config.first_byte_timeout_ms,
                send_stall_ms: $config.send_stall_timeout_ms,
            },
            linger_ms: $config.linger_ms,
            min_receive: $crate::engine::config::MinReceive::default(),
            stream: $crate::port::StreamOptions {
                delay: $config.flags & $crate::ffi::types::WHARF_TCP_DELAY != 0,
                keepalive_s: $config.keepalive_s,
                keepalive_interval_s: $config.keepalive_interval_s,
                keepalive_probes: $config.keepalive_probes,
                send_buffer_bytes: $config.socket_send_buffer_bytes,
                receive_buffer_bytes: $config.socket_receive_buffer_bytes,
            },
        }
    };
}
pub(super) use connection_config;
