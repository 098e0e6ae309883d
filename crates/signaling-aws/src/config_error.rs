//! Fields of a configuration, and what is wrong with one.

use std::fmt;

use crate::endpoint::EndpointProblem;

/// A setting, named by its method on [`crate::SignalingConfigBuilder`]; a program that has other
/// names for its settings maps these to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The channel.
    Channel,
    /// [`crate::SignalingConfigBuilder::region`], or `AWS_REGION`.
    Region,
    /// [`crate::SignalingConfigBuilder::client_id`].
    ClientId,
    /// [`crate::SignalingConfigBuilder::endpoint_url`], or `AWS_ENDPOINT_URL` and its like.
    EndpointUrl,
    /// [`crate::SignalingConfigBuilder::allow_plain_http`].
    AllowPlainHttp,
    /// [`crate::SignalingConfigBuilder::remembered_channels`].
    RememberedChannels,
    /// [`crate::SignalingConfigBuilder::profile`], or `AWS_PROFILE`.
    Profile,
    /// [`crate::SignalingConfigBuilder::ca_file`], or `AWS_CA_BUNDLE`.
    CaFile,
    /// [`crate::SignalingConfigBuilder::proxy`], or `HTTPS_PROXY`.
    Proxy,
    /// [`crate::SignalingConfigBuilder::stun`].
    Stun,
    /// One of [`crate::SignalingConfigBuilder::limits`].
    Limits,
}

impl Field {
    /// The name of its method.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Region => "region",
            Self::ClientId => "client_id",
            Self::EndpointUrl => "endpoint_url",
            Self::AllowPlainHttp => "allow_plain_http",
            Self::RememberedChannels => "remembered_channels",
            Self::Profile => "profile",
            Self::CaFile => "ca_file",
            Self::Proxy => "proxy",
            Self::Stun => "stun",
            Self::Limits => "limits",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A field that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// Which field.
    pub field: Field,
    /// What is wrong with it, and what to write instead. It names no field.
    pub problem: String,
    /// Another field that would make it work as it is.
    pub alternative: Option<Field>,
}

impl ConfigError {
    pub(crate) fn new(field: Field, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into(), alternative: None }
    }

    pub(crate) fn endpoint(problem: EndpointProblem) -> Self {
        let alternative =
            matches!(problem, EndpointProblem::PlainHttp(_)).then_some(Field::AllowPlainHttp);
        Self { alternative, ..Self::new(Field::EndpointUrl, problem.to_string()) }
    }

    /// Formats the error with another name for each field.
    pub fn with_names<'a>(&self, name: impl Fn(Field) -> &'a str) -> String {
        let alternative = self.alternative.map(|field| format!(", or give {}", name(field)));
        format!("{}: {}{}", name(self.field), self.problem, alternative.unwrap_or_default())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_names(Field::as_str))
    }
}

impl std::error::Error for ConfigError {}
