//! The identity of requests: region, credentials, endpoints and clock.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::service_config::ServiceConfigKey;
use kvs_wire::ServiceError;
use negotiation_core::{Failure, FailureCode};
use tokio::time::timeout;
use url::Url;
use viewer_session::redact::{self, Origin};

use crate::clock::SigningClock;
use crate::config::SignalingConfig;
use crate::config_error::{ConfigError, Field};
use crate::endpoint::{is_loopback, parse_endpoint};
use crate::error;
use crate::http;
use crate::status_probe::LastStatus;

/// The AWS configuration, read once for a connection.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The settings for building clients, without credentials.
    pub(crate) sdk: SdkConfig,
    /// The region in every signature.
    pub(crate) region: String,
    /// The control plane, where it is not AWS's own.
    pub(crate) control_endpoint: Option<String>,
    /// The user's own endpoint for the data plane's calls.
    pub(crate) signaling_override: Option<String>,
    /// The service's clock.
    pub(crate) clock: SigningClock,
    provider: SharedCredentialsProvider,
    /// The status of the response to the provider's last request.
    answered: LastStatus,
    limit: Duration,
}

/// The AWS configuration without credentials.
#[derive(Debug)]
struct ServiceLocation {
    region: String,
    control_endpoint: Option<String>,
    signaling_override: Option<String>,
}

impl SignalingConfig {
    /// Checks the settings that come from the files and variables of AWS: that a requested profile
    /// exists, that a region is known, and that endpoints of the environment can be used. A session
    /// that starts without this check finds the same problem and fails with it.
    ///
    /// It reads files; where no region is configured anywhere, it queries the machine's metadata
    /// service.
    ///
    /// # Errors
    /// Names the first field that cannot work, and what to write instead.
    pub async fn check_environment(&self) -> Result<(), ConfigError> {
        check(self).await
    }
}

/// Checks the settings that come from the files and variables of AWS: the profile, the region and
/// their endpoints.
async fn check(config: &SignalingConfig) -> Result<(), ConfigError> {
    // Nothing else can be missing here; endpoints from variables are checked when they are used.
    if config.region.is_some() && config.profile.is_none() {
        return Ok(());
    }
    check_profile(config).await?;
    let http = http::unpooled(&config.trust, &config.route);
    let loader = loader(config).http_client(http).no_credentials();
    match timeout(config.limits.credentials, loader.load()).await {
        Ok(sdk) => ServiceLocation::of(config, &sdk).map(|_| ()),
        // The metadata service hangs; the session retries.
        Err(_) => Ok(()),
    }
}

/// Checks that the requested profile exists.
async fn check_profile(config: &SignalingConfig) -> Result<(), ConfigError> {
    let Some(profile) = &config.profile else { return Ok(()) };
    match is_defined(Some(profile)).await {
        Some((_, false)) => Err(ConfigError::new(Field::Profile, no_profile(profile))),
        Some((_, true)) | None => Ok(()),
    }
}

/// Returns the name of a profile, or of the one that the environment selects, and whether the AWS
/// configuration files contain it; `None` when they cannot be read.
async fn is_defined(profile: Option<&str>) -> Option<(String, bool)> {
    let (fs, env) = (Fs::real(), Env::real());
    let files = EnvConfigFiles::default();
    let chosen = profile.map(|name| Cow::Owned(name.to_owned()));
    let profiles = aws_config::profile::load(&fs, &env, &files, chosen).await.ok()?;
    let name = profiles.selected_profile().to_owned();
    let is_there = profiles.get_profile(&name).is_some();
    Some((name, is_there))
}

fn no_profile(name: &str) -> String {
    let name = error::clean(name);
    format!(
        "there is no profile {name} in the AWS configuration files (~/.aws/config and \
         ~/.aws/credentials, or those of AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE)"
    )
}

fn loader(config: &SignalingConfig) -> ConfigLoader {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(fips) = config.fips {
        loader = loader.use_fips(fips);
    }
    if let Some(dual_stack) = config.dual_stack {
        loader = loader.use_dual_stack(dual_stack);
    }
    loader
}

impl ServiceLocation {
    fn of(config: &SignalingConfig, sdk: &SdkConfig) -> Result<Self, ConfigError> {
        let region = match sdk.region() {
            Some(region) if crate::config::is_region(region.as_ref()) => region.to_string(),
            Some(region) => {
                let region = error::clean(region.as_ref());
                let problem = format!(
                    "{region:?} of the AWS configuration is no region; one looks like us-west-2"
                );
                return Err(ConfigError::new(Field::Region, problem));
            }
            None => {
                return Err(ConfigError::new(
                    Field::Region,
                    "no region is known: give one, like us-west-2, or the channel's ARN, or set \
                     AWS_REGION",
                ));
            }
        };
        let (control_endpoint, signaling_override) = endpoints(config, sdk);
        for url in [&control_endpoint, &signaling_override].into_iter().flatten() {
            parse_endpoint(url, config.plain()).map_err(|problem| {
                let error = ConfigError::endpoint(problem);
                let problem = format!("that of the AWS configuration {}", error.problem);
                ConfigError { problem, ..error }
            })?;
        }
        Ok(Self { region, control_endpoint, signaling_override })
    }
}

impl Identity {
    /// Reads environment, profiles and, if it has to, the metadata service.
    pub(crate) async fn load(
        config: &SignalingConfig,
        http: SharedHttpClient,
    ) -> Result<Self, Failure> {
        check_profile(config).await.map_err(|error| refused(&error))?;
        let answered = LastStatus::default();
        let mut loader = loader(config)
            .http_client(answered.of(http))
            // Credentials come from AWS, also for another service.
            .time_source(config.client.clock(None))
            // For STS and similar services, which also correct a wrong clock by a retry. A user's
            // variables could hold an invalid value, for which the loader would panic.
            .retry_config(RetryConfig::standard());
        if let Some(provider) = &config.credentials {
            loader = loader.credentials_provider(provider.clone());
        }
        let limit = config.limits.credentials;
        let sdk = timeout(limit, loader.load()).await.map_err(|_| {
            error::timed_out("the AWS configuration (does a metadata service hang?)")
        })?;
        Self::from_sdk(config, sdk, answered)
    }

    fn from_sdk(
        config: &SignalingConfig,
        sdk: SdkConfig,
        answered: LastStatus,
    ) -> Result<Self, Failure> {
        let ServiceLocation { region, control_endpoint, signaling_override } =
            ServiceLocation::of(config, &sdk).map_err(|error| refused(&error))?;
        for url in [&control_endpoint, &signaling_override].into_iter().flatten() {
            warn_of_plain_http(url);
        }
        let provider = sdk
            .credentials_provider()
            .ok_or_else(|| no_credentials("no credentials are configured"))?;
        let limit = config.limits.credentials;
        let clock = config.client.clock(control_endpoint.as_deref());
        let mut sdk = sdk
            .into_builder()
            .time_source(clock.clone())
            // The caller retries; a retry by the SDK would only hide the failure.
            .retry_config(RetryConfig::disabled());
        // `SigningClock` corrects the skew for calls and sockets alike.
        sdk.set_disable_clock_skew_correction(Some(true));
        Ok(Self {
            sdk: sdk.build(),
            region,
            control_endpoint,
            signaling_override,
            clock,
            provider,
            answered,
            limit,
        })
    }

    /// Requests credentials from the provider. It does not cache them.
    pub(crate) async fn credentials(&self) -> Result<Credentials, Failure> {
        // Clears the status of earlier requests, for region and profile.
        self.answered.take();
        match timeout(self.limit, self.provider.provide_credentials()).await {
            Ok(Ok(credentials)) => {
                redact::remember(Origin::Account, credentials.secret_access_key());
                if let Some(token) = credentials.session_token() {
                    redact::remember(Origin::Account, token);
                }
                Ok(credentials)
            }
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => Err(none_found().await),
            Ok(Err(error)) => Err(credentials_failure(&error, self.answered.take())),
            Err(_) => Err(error::timed_out("AWS credentials (does a metadata service hang?)")),
        }
    }
}

/// Returns the control plane's endpoint and the override for the data plane, by AWS's precedence:
/// the option, then the service's variable, then the global one, then profiles.
///
/// The control plane's response determines the data plane's endpoint, also if the global variable
/// is set: only an endpoint for signaling alone overrides it.
fn endpoints(config: &SignalingConfig, sdk: &SdkConfig) -> (Option<String>, Option<String>) {
    if let Some(url) = &config.endpoint_url {
        return (Some(url.to_string()), None);
    }
    let of_service = |service: &str| {
        let key = ServiceConfigKey::builder()
            .service_id(service)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        sdk.service_config()?.load_config(key)
    };
    // No such service can be configured, so the lookup returns the global endpoint.
    let global = of_service("No Service");
    let control = of_service("Kinesis Video").or_else(|| sdk.endpoint_url().map(str::to_owned));
    let signaling =
        of_service("Kinesis Video Signaling").filter(|url| Some(url) != global.as_ref());
    (control, signaling)
}

/// Maps an invalid configuration to a session's failure.
fn refused(error: &ConfigError) -> Failure {
    let code = match error.field {
        Field::Profile => FailureCode::NoCredentials,
        Field::Channel
        | Field::Region
        | Field::ClientId
        | Field::EndpointUrl
        | Field::AllowPlainHttp
        | Field::RememberedChannels
        | Field::CaFile
        | Field::Proxy
        | Field::Stun
        | Field::Limits => FailureCode::InvalidArgument,
    };
    // A region's problem has no field name in front: its text states where the region comes from.
    let is_region = error.field == Field::Region;
    Failure::new(code, if is_region { error.problem.clone() } else { error.to_string() })
}

/// Warns once for each endpoint, since it applies to every call.
fn warn_of_plain_http(endpoint: &str) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Some(url) = Url::parse(endpoint).ok().filter(|url| url.scheme() == "http") else { return };
    if is_loopback(&url) {
        return;
    }
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.len() < WARNED_MAX && warned.insert(endpoint.to_owned()) {
        tracing::warn!(
            endpoint,
            "plain HTTP beyond this machine: anyone on the network path can read and use the signed \
             requests, and so watch the channel"
        );
    }
}

/// Maximum number of endpoints for which a warning is logged.
const WARNED_MAX: usize = 64;

/// Returns the failure for the case that no source has credentials.
async fn none_found() -> Failure {
    let named = std::env::var_os("AWS_PROFILE").is_some_and(|name| !name.is_empty());
    if named && let Some((name, false)) = is_defined(None).await {
        return no_credentials(&no_profile(&name));
    }
    no_credentials(
        "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a \
         profile",
    )
}

fn no_credentials(detail: &str) -> Failure {
    Failure::new(FailureCode::NoCredentials, detail)
}

/// Maps a credentials error to a failure. `status` is that of the last response.
fn credentials_failure(error: &CredentialsError, status: Option<u16>) -> Failure {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            no_credentials("no AWS credentials were found")
        }
        CredentialsError::ProviderTimedOut(_) => error::timed_out("AWS credentials"),
        CredentialsError::InvalidConfiguration(_) => no_credentials(&format!(
            "the AWS configuration of credentials is wrong: {}",
            deepest(error)
        )),
        CredentialsError::ProviderError(_) | CredentialsError::Unhandled(_) | _ => {
            let what = "the source of AWS credentials";
            if let Some(code) = status.and_then(|status| temporary_failure(status, error)) {
                return Failure::new(code, format!("{what} fails for now: {}", deepest(error)));
            }
            let below = error::transport(what, error);
            if below.code == FailureCode::Network && !below.detail.contains(": ") {
                // No connection failed: the cause is an expired single sign-on or a failed process.
                return no_credentials(&format!("{what} failed: {}", deepest(error)));
            }
            below
        }
    }
}

/// Returns the failure code of a response that does not concern the credentials: a later request
/// may succeed.
fn temporary_failure(status: u16, error: &CredentialsError) -> Option<FailureCode> {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    // STS reports throttling by the error name, with status 400.
    let mut names = causes.filter_map(|cause| cause.downcast_ref::<ErrorMetadata>()?.code());
    let is_throttled = names.any(|name| {
        name.starts_with("Throttl") || ServiceError::new(status, Some(name), "").code() == THROTTLED
    });
    match status {
        _ if is_throttled => Some(THROTTLED),
        429 => Some(THROTTLED),
        500.. => Some(FailureCode::Service),
        _ => None,
    }
}

const THROTTLED: FailureCode = FailureCode::Throttled;

/// Returns the text of the root cause, which the user can fix.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    error::clean(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_types::service_config::LoadServiceConfig;
    use std::collections::BTreeMap;

    /// A minimal version of what [`aws_config`] does with variables.
    #[derive(Debug)]
    struct Variables(BTreeMap<&'static str, &'static str>);

    impl LoadServiceConfig for Variables {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            let service = key.service_id().to_uppercase().replace(' ', "_");
            let specific = format!("{}_{service}", key.env());
            self.0.get(specific.as_str()).or_else(|| self.0.get(key.env())).map(|v| v.to_string())
        }
    }

    fn resolved(
        option: Option<&str>,
        variables: &[(&'static str, &'static str)],
    ) -> (Option<String>, Option<String>) {
        let mut builder = SignalingConfig::builder("door").region("us-west-2");
        if let Some(url) = option {
            builder = builder.endpoint_url(url);
        }
        let config = builder.build().expect("valid");
        let sdk = SdkConfig::builder()
            .region(Region::new("us-west-2"))
            .service_config(Variables(variables.iter().copied().collect()))
            .build();
        endpoints(&config, &sdk)
    }

    #[test]
    fn endpoints_follow_the_precedence_of_aws() {
        const GLOBAL: (&str, &str) = ("AWS_ENDPOINT_URL", "https://global");
        const VIDEO: (&str, &str) = ("AWS_ENDPOINT_URL_KINESIS_VIDEO", "https://video");
        const SIGNALING: (&str, &str) =
            ("AWS_ENDPOINT_URL_KINESIS_VIDEO_SIGNALING", "https://signaling");
        let owned = |a: Option<&str>, b: Option<&str>| (a.map(str::to_owned), b.map(str::to_owned));
        assert_eq!(resolved(None, &[]), owned(None, None));
        assert_eq!(resolved(None, &[GLOBAL]), owned(Some("https://global"), None));
        assert_eq!(resolved(None, &[GLOBAL, VIDEO]), owned(Some("https://video"), None));
        assert_eq!(resolved(None, &[SIGNALING]), owned(None, Some("https://signaling")));
        assert_eq!(
            resolved(Some("https://option"), &[GLOBAL, VIDEO, SIGNALING]),
            owned(Some("https://option/"), None)
        );
    }

    #[test]
    fn missing_region_or_credentials_name_what_to_set() {
        let config = SignalingConfig::builder("door").build().expect("valid");
        let from_sdk = |sdk| Identity::from_sdk(&config, sdk, LastStatus::default());
        let failure = from_sdk(SdkConfig::builder().build()).expect_err("no");
        assert_eq!(failure.code, FailureCode::InvalidArgument);
        assert!(failure.detail.contains("AWS_REGION"), "{}", failure.detail);
        let sdk = SdkConfig::builder().region(Region::new("us-west-2")).build();
        let failure = from_sdk(sdk).expect_err("no");
        assert_eq!(failure.code, FailureCode::NoCredentials);
    }
}
