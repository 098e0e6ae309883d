"""Presigns signaling URLs with botocore: one request per line of JSON in, one URL per line out."""

import datetime
import json
import sys
from urllib.parse import quote

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SERVICE = "kinesisvideo"
EXPIRES = 299


class Frozen(datetime.datetime):
    """botocore asks the clock itself; this one says what the request says."""

    moment = 0

    @classmethod
    def utcnow(cls):
        return datetime.datetime.fromtimestamp(cls.moment, datetime.timezone.utc).replace(
            tzinfo=None
        )

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(cls.moment, tz)


def freeze():
    """Versions of botocore read the time in one of two ways."""
    auth.datetime = type("Module", (), {"datetime": Frozen, "timezone": datetime.timezone})
    if hasattr(auth, "get_current_datetime"):
        auth.get_current_datetime = lambda remove_tzinfo=True: Frozen.utcnow()


def sign(request):
    Frozen.moment = request["time"]
    credentials = Credentials(request["key"], request["secret"], request["token"])
    # The signer knows http alone; neither scheme nor method of a socket is part of what it signs.
    query = "X-Amz-ChannelARN=" + quote(request["arn"], safe="-_.~")
    if request["client_id"] is not None:
        query += "&X-Amz-ClientId=" + quote(request["client_id"], safe="-_.~")
    url = request["endpoint"].replace("wss://", "https://", 1)
    if url.count("/") == 2:
        url += "/"
    http = AWSRequest(method="GET", url=url + "?" + query)
    signer = auth.SigV4QueryAuth(credentials, SERVICE, request["region"], expires=EXPIRES)
    # botocore signs S3's presigned bodies as unsigned; a socket's upgrade has an empty one.
    signer.add_auth(http)
    return http.url


def main():
    freeze()
    for line in sys.stdin:
        print(json.dumps(sign(json.loads(line))), flush=False)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
