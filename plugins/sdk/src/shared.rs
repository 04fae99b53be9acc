//! Lifts and lowers what all kinds share (`wit/types`). No decision of its own.

use crate::chain_sync::bindings::cvp::types::types as wit;

pub fn lower_descriptor(it: cvp_types::Descriptor) -> wit::Descriptor {
    wit::Descriptor {
        id: it.id,
        kind: it.kind,
        version: it.version,
        settings_schema: it.settings_schema,
        extra: it.extra,
    }
}

pub fn lower_problems(problems: Vec<cvp_types::Problem>) -> Vec<wit::Problem> {
    let lower = |it: cvp_types::Problem| wit::Problem {
        path: it.path,
        message: it.message,
    };
    problems.into_iter().map(lower).collect()
}

pub fn lift_role(role: wit::Role) -> cvp_types::Role {
    match role {
        wit::Role::Provider => cvp_types::Role::Provider,
        wit::Role::Receiver => cvp_types::Role::Receiver,
    }
}

pub fn lift_digest((a, b, c, d): wit::Digest) -> [u8; 32] {
    let mut digest = [0; 32];
    for (part, word) in digest.chunks_exact_mut(8).zip([a, b, c, d]) {
        part.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

pub fn lift_fault(it: wit::Fault) -> cvp_types::Fault {
    cvp_types::Fault {
        code: it.code,
        text: it.text,
    }
}

pub fn lower_fault(it: cvp_types::Fault) -> wit::Fault {
    wit::Fault {
        code: it.code,
        text: it.text,
    }
}

pub fn lower_level(level: cvp_types::Level) -> wit::Level {
    match level {
        cvp_types::Level::Debug => wit::Level::Debug,
        cvp_types::Level::Info => wit::Level::Info,
        cvp_types::Level::Warn => wit::Level::Warn,
    }
}
