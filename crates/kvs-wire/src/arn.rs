//! Names and ARNs of signaling channels.
//!
//! The models of the API disagree on the partition (one contains `arn:aws:` literally), so any
//! partition is accepted (docs/kvs-protocol.md 1.2).

use std::fmt;

/// The ARN of a signaling channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelArn {
    text: String,
    region: String,
}

impl ChannelArn {
    /// Parses `arn:PARTITION:kinesisvideo:REGION:ACCOUNT:channel/NAME/CREATION_TIME`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 1024 {
            return None;
        }
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let mut resource = resource.split('/');
        let (kind, name, created) = (resource.next()?, resource.next()?, resource.next()?);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let valid = arn == "arn"
            && is_lower(partition)
            && service == "kinesisvideo"
            && is_lower(region)
            && digits(account)
            && kind == "channel"
            && is_channel_name(name)
            && digits(created)
            && resource.next().is_none();
        valid.then(|| Self { text: text.to_owned(), region: region.to_owned() })
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region of the channel.
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl fmt::Display for ChannelArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text is a valid channel name: 1 to 256 characters of `[a-zA-Z0-9_.-]`.
pub fn is_channel_name(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_lower(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arn_of_any_partition_is_accepted() {
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso-b"] {
            let text = format!("arn:{partition}:kinesisvideo:cn-north-1:1:channel/a_B.c-1/15");
            let arn = ChannelArn::parse(&text).expect("valid");
            assert_eq!((arn.as_str(), arn.region()), (text.as_str(), "cn-north-1"));
        }
    }

    #[test]
    fn arn_of_another_resource_is_refused() {
        for bad in [
            "",
            "arn:aws:kinesisvideo:us-west-2:1:stream/x/1",
            "arn:aws:kinesisvideo:us-west-2:1:channel/x",
            "arn:aws:kinesisvideo:us-west-2:1:channel/x/1/2",
            "arn:aws:kinesisvideo:us-west-2:1:channel/x y/1",
            "arn:aws:kinesisvideo:us-west-2:1:channel/x/a",
            "arn:aws:kinesisvideo:US:1:channel/x/1",
            "arn:aws:kinesisvideo:us-west-2:acct:channel/x/1",
            "arn:aws:s3:us-west-2:1:channel/x/1",
        ] {
            assert_eq!(ChannelArn::parse(bad), None, "{bad}");
        }
    }
}
