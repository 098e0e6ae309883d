//! The account's signaling channels, which the control plane creates, finds and deletes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::ApiError;

/// One signaling channel.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) created_millis: i64,
    pub(crate) message_ttl_secs: u32,
    pub(crate) version: String,
    pub(crate) storage: Storage,
    active_from: Instant,
    gone_from: Option<Instant>,
}

/// The media storage configuration: with it enabled, viewers and master no longer meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) enabled: bool,
    pub(crate) stream_arn: Option<String>,
}

/// The properties of a new channel.
pub(crate) struct NewChannel {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) created_millis: i64,
    pub(crate) message_ttl_secs: u32,
    pub(crate) version: String,
    pub(crate) creating: Duration,
}

/// All channels, by name.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_name: BTreeMap<String, Channel>,
}

impl Channel {
    pub(crate) fn status(&self, now: Instant) -> &'static str {
        if self.gone_from.is_some() {
            "DELETING"
        } else if now < self.active_from {
            "CREATING"
        } else {
            "ACTIVE"
        }
    }

    pub(crate) fn need_active(&self, now: Instant) -> Result<(), ApiError> {
        if self.status(now) == "ACTIVE" {
            return Ok(());
        }
        let text = format!("The channel {} is {}.", self.name, self.status(now));
        Err(ApiError::new(400, "ResourceInUseException", text))
    }

    pub(crate) fn need_version(&self, wanted: Option<&str>) -> Result<(), ApiError> {
        match wanted {
            Some(version) if version != self.version => Err(ApiError::new(
                400,
                "VersionMismatchException",
                "The stream version that you specified is not the latest version. To get the \
                 latest version, use the DescribeSignalingChannel API.",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// `ChannelInfo`; times are epoch seconds, as the REST JSON protocol writes them.
    pub(crate) fn info(&self, now: Instant) -> Value {
        json!({
            "ChannelName": self.name,
            "ChannelARN": self.arn,
            "ChannelType": "SINGLE_MASTER",
            "ChannelStatus": self.status(now),
            "CreationTime": self.created_millis as f64 / 1000.0,
            "SingleMasterConfiguration": { "MessageTtlSeconds": self.message_ttl_secs },
            "Version": self.version,
        })
    }
}

impl Channels {
    pub(crate) fn create(
        &mut self,
        new: NewChannel,
        max: Option<usize>,
        now: Instant,
    ) -> Result<String, ApiError> {
        self.forget_gone(now);
        if self.by_name.contains_key(&new.name) {
            let text = format!("The channel {} already exists.", new.name);
            return Err(ApiError::new(400, "ResourceInUseException", text));
        }
        if max.is_some_and(|max| self.by_name.len() >= max) {
            return Err(ApiError::new(
                400,
                "AccountChannelLimitExceededException",
                "You have reached the maximum limit of active signaling channels for this account.",
            ));
        }
        let arn = format!(
            "arn:{}:kinesisvideo:{}:{}:channel/{}/{}",
            partition(&new.region),
            new.region,
            new.account,
            new.name,
            new.created_millis
        );
        let channel = Channel {
            arn: arn.clone(),
            name: new.name.clone(),
            created_millis: new.created_millis,
            message_ttl_secs: new.message_ttl_secs,
            version: new.version,
            storage: Storage::default(),
            active_from: now + new.creating,
            gone_from: None,
        };
        self.by_name.insert(new.name, channel);
        Ok(arn)
    }

    pub(crate) fn by_name(&mut self, name: &str, now: Instant) -> Result<&mut Channel, ApiError> {
        self.forget_gone(now);
        self.by_name.get_mut(name).ok_or_else(missing)
    }

    pub(crate) fn by_arn(&mut self, arn: &str, now: Instant) -> Result<&mut Channel, ApiError> {
        self.forget_gone(now);
        let name = arn.split('/').nth(1).unwrap_or_default();
        self.by_name.get_mut(name).filter(|channel| channel.arn == arn).ok_or_else(missing)
    }

    pub(crate) fn delete(
        &mut self,
        arn: &str,
        takes: Duration,
        now: Instant,
    ) -> Result<(), ApiError> {
        let channel = self.by_arn(arn, now)?;
        channel.gone_from = Some(now + takes);
        self.forget_gone(now);
        Ok(())
    }

    /// Returns up to `max` infos of channels with a name that begins with `prefix`, after the name
    /// `after`, and the name from which to continue.
    pub(crate) fn list(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
        now: Instant,
    ) -> (Vec<Value>, Option<String>) {
        self.forget_gone(now);
        let mut matching = self
            .by_name
            .values()
            .filter(|channel| channel.name.starts_with(prefix))
            .filter(|channel| after.is_none_or(|after| channel.name.as_str() > after))
            .peekable();
        let mut infos = Vec::new();
        let mut last = None;
        while infos.len() < max
            && let Some(channel) = matching.next()
        {
            infos.push(channel.info(now));
            last = Some(channel.name.clone());
        }
        let more = matching.peek().is_some();
        (infos, last.filter(|_| more))
    }

    /// Enables media storage, into a stream of the channel's own name.
    pub(crate) fn store(&mut self, name: &str, now: Instant) -> Result<(), ApiError> {
        let channel = self.by_name(name, now)?;
        let stream_arn = Some(channel.arn.replacen(":channel/", ":stream/", 1));
        channel.storage = Storage { enabled: true, stream_arn };
        Ok(())
    }

    /// Returns the number of channels with media storage, without this one.
    pub(crate) fn storing_beside(&self, arn: Option<&str>) -> usize {
        let stores =
            |channel: &&Channel| channel.storage.enabled && Some(channel.arn.as_str()) != arn;
        self.by_name.values().filter(stores).count()
    }

    pub(crate) fn arns(&self) -> BTreeMap<String, String> {
        self.by_name.values().map(|c| (c.name.clone(), c.arn.clone())).collect()
    }

    fn forget_gone(&mut self, now: Instant) {
        self.by_name.retain(|_, channel| channel.gone_from.is_none_or(|gone| now < gone));
    }
}

/// Whether the text is a channel name: 1..256 of `[a-zA-Z0-9_.-]`.
pub(crate) fn is_name(text: &str) -> bool {
    crate::wire::is_plain_id(text)
}

/// `arn:<partition>:kinesisvideo:<region>:<account>:<type>/<name>/<digits>`, at most 1024 long
/// (docs/kvs-protocol.md 1.2).
pub(crate) fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let [arn, partition, service, region, account, resource] = parts.as_slice() else {
        return false;
    };
    let plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let path: Vec<&str> = resource.split('/').collect();
    let [kind, name, created] = path.as_slice() else { return false };
    text.len() <= 1024
        && *arn == "arn"
        && plain(partition)
        && *service == "kinesisvideo"
        && plain(region)
        && digits(account)
        && plain(kind)
        && is_name(name)
        && digits(created)
}

fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

fn missing() -> ApiError {
    ApiError::not_found(
        "The requested channel is not found or not active for the account in this region.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewChannel {
        NewChannel {
            name: name.to_owned(),
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
            created_millis: 1,
            message_ttl_secs: 60,
            version: "V".to_owned(),
            creating: Duration::from_secs(1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn channel_goes_from_creating_to_active_to_deleted() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let mut channels = Channels::default();
        let arn = channels.create(new("a"), None, now).unwrap();
        assert_eq!(arn, "arn:aws:kinesisvideo:us-west-2:123456789012:channel/a/1");
        assert!(is_arn(&arn));
        let error = channels.create(new("a"), None, now).unwrap_err();
        assert_eq!(error.kind, "ResourceInUseException");
        assert_eq!(channels.by_name("a", now).unwrap().status(now), "CREATING");
        assert!(channels.by_arn(&arn, now).unwrap().need_active(now).is_err());
        assert!(channels.by_arn(&arn, now).unwrap().need_active(later).is_ok());
        channels.delete(&arn, Duration::from_secs(1), later).unwrap();
        assert_eq!(channels.by_arn(&arn, later).unwrap().status(later), "DELETING");
        let gone = later + Duration::from_secs(1);
        assert_eq!(channels.by_arn(&arn, gone).unwrap_err().status, 404);
        assert!(channels.create(new("a"), Some(0), gone).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn channel_list_is_paged_by_name() {
        let now = Instant::now();
        let mut channels = Channels::default();
        for name in ["b", "a1", "a2", "a3"] {
            channels.create(new(name), None, now).unwrap();
        }
        let (page, next) = channels.list("a", None, 2, now);
        assert_eq!((page.len(), next.as_deref()), (2, Some("a2")));
        let (page, next) = channels.list("a", next.as_deref(), 2, now);
        assert_eq!((page[0]["ChannelName"].as_str(), next), (Some("a3"), None));
    }

    #[test]
    fn channel_arn_matches_the_service_model() {
        assert!(is_arn("arn:aws-us-gov:kinesisvideo:us-gov-west-1:1:channel/a.b_c-D/12"));
        for bad in [
            "",
            "arn:aws:kinesisvideo:us-west-2:1:channel/a",
            "arn:aws:s3:us-west-2:1:channel/a/1",
            "arn:aws:kinesisvideo:us-west-2:x:channel/a/1",
            "arn:aws:kinesisvideo:us-west-2:1:channel/a@b/1",
            "arn:aws:kinesisvideo:us-west-2:1:channel/a/x",
        ] {
            assert!(!is_arn(bad), "{bad}");
        }
    }
}
