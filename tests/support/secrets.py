"""Users and secrets for tests: cheap bcrypt hashes, an nkey, and what a client says to be one of them."""

from __future__ import annotations

import base64
from typing import Any, Final

import bcrypt
import nkeys

# The example of NATS's own documentation.
NKEY: Final = "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT"
SEED: Final = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"
CREDS: Final = f"""-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.e30.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


def hashed(secret: str, cost: int = 4) -> str:
    """A bcrypt hash of `secret`; by default one that is found out in a millisecond."""
    return bcrypt.hashpw(secret.encode(), bcrypt.gensalt(cost)).decode()


def password(user: str, secret: str | None = None) -> dict[str, Any]:
    """What a client says in CONNECT to be `user`, by a password that is the same word unless another is given."""
    return {"user": user, "pass": user if secret is None else secret}


def signed(nonce: str, *, padded: bool = False) -> dict[str, Any]:
    """What a client says in CONNECT to be the user of NKEY."""
    signature = nkeys.from_seed(bytearray(SEED.encode())).sign(nonce.encode())
    encoded = base64.b64encode(signature) if padded else base64.urlsafe_b64encode(signature).rstrip(b"=")
    return {"nkey": NKEY, "sig": encoded.decode()}
