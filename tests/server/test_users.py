"""Who there is by a configuration, and what is said of one that cannot be used."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from mq9.mailboxes.owner import Owner
from mq9.server.config import Config, ConfigError
from mq9.server.user import User
from mq9.server.userconfig import PermissionsConfig, Responses, SubjectLists, UserConfig
from mq9.server.users import TOKEN_USER, Check, Users
from tests.support.secrets import NKEY, hashed, password, signed

SECRET = "correct horse battery staple"


def users(**config: Any) -> Users:
    return Users(Config(**config), Owner)


def of_file(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "mq9.toml"
    file.write_text(text)
    return Config.load(file)


def name_of(found: User | Check | None) -> str | None:
    assert found is None or isinstance(found, User), found
    return None if found is None else found.name


def test_a_broker_without_users_asks_nobody() -> None:
    assert not users().required


def test_passwords() -> None:
    known = users(users=(UserConfig("anna", password=SECRET), UserConfig("ben", password="ben's")))
    assert known.required
    assert name_of(known.identify(password("anna", SECRET), "", None)) == "anna"
    assert name_of(known.identify(password("ben", "ben's"), "", None)) == "ben"
    for said in (
        password("anna", "ben's"),
        password("anna", SECRET + "x"),
        password("anna", SECRET[:-1]),
        {"user": "anna"},
        password("carl", SECRET),
        {"auth_token": SECRET},
        {},
    ):
        assert known.identify(said, "", None) is None, said


def test_a_single_user_and_a_single_token() -> None:
    one = users(user="anna", password=SECRET)
    assert name_of(one.identify(password("anna", SECRET), "", None)) == "anna"
    token = users(token=SECRET)
    assert name_of(token.identify({"auth_token": SECRET}, "", None)) == TOKEN_USER
    assert token.identify({"auth_token": ""}, "", None) is None
    assert token.identify({"user": SECRET}, "", None) is None
    assert token.identify({"jwt": "x"}, "", None) is None


def test_tokens_of_several_users() -> None:
    known = users(users=(UserConfig("a", token="token of a"), UserConfig("b", token="token of b")))
    assert name_of(known.identify({"auth_token": "token of a"}, "", None)) == "a"
    assert name_of(known.identify({"auth_token": "token of b"}, "", None)) == "b"
    assert known.identify({"auth_token": "token of c"}, "", None) is None


def test_a_bcrypt_hash_is_to_be_checked_whoever_it_is() -> None:
    secret = hashed(SECRET)
    known = users(users=(UserConfig("anna", password=secret), UserConfig("ben", password="ben's")))
    found = known.identify(password("anna", SECRET), "", None)
    assert isinstance(found, Check)
    assert (found.user and found.user.name, found.hashed, found.secret) == ("anna", secret, SECRET)
    # Nobody learns by the time it takes who is a user, and whose password is hashed.
    for said in (password("nobody", SECRET), password("ben", "wrong"), {"auth_token": "x"}):
        found = known.identify(said, "", None)
        assert isinstance(found, Check)
        assert (found.user, found.hashed) == (None, secret)
    assert name_of(known.identify(password("ben", "ben's"), "", None)) == "ben"


def test_a_token_may_be_hashed_and_only_one_of_several() -> None:
    one = users(token=hashed(SECRET))
    found = one.identify({"auth_token": SECRET}, "", None)
    assert isinstance(found, Check)
    assert found.user is not None
    several = users(users=(UserConfig("a", token="plain"), UserConfig("b", token=hashed(SECRET))))
    assert name_of(several.identify({"auth_token": "plain"}, "", None)) == "a"
    found = several.identify({"auth_token": SECRET}, "", None)
    assert isinstance(found, Check)
    assert found.user is not None
    assert found.user.name == "b"
    with pytest.raises(ConfigError, match="only one token"):
        users(users=(UserConfig("a", token=hashed("x")), UserConfig("b", token=hashed("y"))))


def test_an_nkey_signs_the_nonce_of_its_connection() -> None:
    known = users(users=(UserConfig("anna", nkey=NKEY), UserConfig("ben", password="ben")))
    assert known.needs_nonce
    nonce = secrets.token_urlsafe(11)
    for padded in (False, True):
        assert name_of(known.identify(signed(nonce, padded=padded), nonce, None)) == "anna"
    for said, given in (
        (signed(nonce), "another"),
        (signed(""), ""),
        ({"nkey": NKEY}, nonce),
        (signed(nonce) | {"sig": "A"}, nonce),
        (signed(nonce) | {"sig": "ä" * 86}, nonce),
        (signed(nonce) | {"nkey": NKEY[:-1] + "A"}, nonce),
    ):
        assert known.identify(said, given, None) is None
    assert not users(token=SECRET).needs_nonce


def test_who_does_not_say_who_it_is() -> None:
    known = users(
        users=(UserConfig("anna", password=hashed("x")), UserConfig("guest", password="g")), no_auth_user="anna"
    )
    assert name_of(known.identify({}, "", None)) == "anna"
    assert name_of(known.identify({"jwt": "of no use here"}, "", None)) == "anna"
    assert name_of(known.identify(password("guest", "g"), "", None)) == "guest"
    assert isinstance(known.identify({"auth_token": "x"}, "", None), Check)
    assert isinstance(known.identify({"pass": "x"}, "", None), Check)


CERTIFICATE = {
    "subject": (
        (("countryName", "DE"),),
        (("organizationName", "Mail, Ltd"),),
        (("commonName", "agent-7"),),
    ),
    "subjectAltName": (
        ("DNS", "agent-7.example"),
        ("email", "seven@agents.example"),
        ("URI", "spiffe://agents.example/seven"),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "seven@agents.example",
        "agent-7.example",
        "spiffe://agents.example/seven",
        r"CN=agent-7,O=Mail\, Ltd,C=DE",
        r"C=DE, O=Mail\, Ltd, CN=agent-7",
    ],
)
def test_a_certificate_says_who_its_client_is(name: str) -> None:
    known = users(users=(UserConfig("other"), UserConfig(name)), tls_verify_and_map=True)
    assert name_of(known.identify({}, "", CERTIFICATE)) == name
    assert name_of(known.identify(password("other"), "", CERTIFICATE)) == name, "not what CONNECT says"
    assert known.identify(password(name), "", None) is None
    assert known.identify(password(name), "", {"subject": ((("commonName", "agent-8"),),)}) is None


def test_an_email_comes_before_other_names_of_a_certificate() -> None:
    known = users(users=(UserConfig("agent-7.example"), UserConfig("seven@agents.example")), tls_verify_and_map=True)
    assert name_of(known.identify({}, "", CERTIFICATE)) == "seven@agents.example"


def test_users_without_permissions_have_the_default_ones() -> None:
    known = users(
        users=(UserConfig("anna", password="a"), UserConfig("ben", password="b", permissions=PermissionsConfig())),
        default_permissions=PermissionsConfig(publish=SubjectLists(("some.>",))),
    )
    anna, ben = known.identify(password("anna", "a"), "", None), known.identify(password("ben", "b"), "", None)
    assert isinstance(anna, User)
    assert isinstance(ben, User)
    assert anna.permissions is not None
    assert not anna.permissions.publishes(b"other")
    assert ben.permissions is not None
    assert ben.permissions.publishes(b"other")


def test_everything_a_file_can_say_of_a_user(tmp_path: Path) -> None:
    config = of_file(
        tmp_path,
        f"""
        no_auth_user = "anna"
        [[users]]
        name = "anna"
        password = "{SECRET}"
        max_mailboxes = 3
        max_stored = 1000
        max_rate = 2.5
        max_connections = 4
        max_subscriptions = 5
        [users.permissions]
        mailboxes = ["create", "list"]
        publish = {{ allow = ["a.>", "b"], deny = "a.b" }}
        subscribe = ["_INBOX.>", "jobs workers.*"]
        allow_responses = {{ max = 3, expires = 4 }}
        [[users]]
        nkey = "{NKEY}"
        [users.permissions]
        mailboxes = "all"
        allow_responses = true
        [[users]]
        name = "carl"
        token = "carl's"
        [default_permissions]
        publish = "p.>"
        """,
    )
    anna, nkey, carl = config.users
    assert anna == UserConfig(
        "anna",
        password=SECRET,
        permissions=PermissionsConfig(
            ("create", "list"),
            SubjectLists(("a.>", "b"), ("a.b",)),
            SubjectLists(("_INBOX.>", "jobs workers.*")),
            Responses(3, 4.0),
        ),
        max_mailboxes=3,
        max_stored=1000,
        max_rate=2.5,
        max_connections=4,
        max_subscriptions=5,
    )
    assert (nkey.name, nkey.nkey) == (NKEY, NKEY)
    assert nkey.permissions == PermissionsConfig(("all",), allow_responses=Responses(1, 120.0))
    assert (carl.token, carl.permissions) == ("carl's", None)
    assert config.default_permissions == PermissionsConfig(publish=SubjectLists(("p.>",)))
    assert SECRET not in repr(config)
    assert "carl's" not in repr(config)


USER = 'name = "anna"\npassword = "secret-word"\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("users = 1", "users must be a list of tables"),
        ("users = [1]", r"users\[0\] must be a table"),
        ('[[users]]\nname = "a"', "user a needs a password, a token or an nkey"),
        ('[[users]]\npassword = "secret-word"', r"users\[0\] needs a name"),
        ('[[users]]\nname = "a"\npassword = 1', r"users\[0\].password must be a string"),
        ('[[users]]\nname = ""\npassword = "secret-word"', "the name of a user must have 1 to 256 bytes"),
        (f'[[users]]\nname = "{"x" * 257}"\npassword = "secret-word"', "the name of a user must have 1 to 256 bytes"),
        ('[[users]]\nname = "a\\nb"\npassword = "secret-word"', "no control characters"),
        ('[[users]]\nname = "a"\npassword = ""', "the password of user a must not be empty"),
        (f'[[users]]\n{USER}token = "secret-word"', r"users\[0\] has password and token; a user has one of them"),
        (f"[[users]]\n{USER}paswort = 1", r"users\[0\] has the unknown key paswort"),
        (f"[[users]]\n{USER}[[users]]\n{USER}", "two users called anna"),
        (f"[[users]]\n{USER}max_mailboxes = -1", r"users\[0\].max_mailboxes must be a whole number from 0"),
        (f"[[users]]\n{USER}max_stored = 1.5", r"users\[0\].max_stored"),
        (f"[[users]]\n{USER}max_connections = true", r"users\[0\].max_connections"),
        (f'[[users]]\n{USER}max_rate = "fast"', r"users\[0\].max_rate must be a number"),
        (f"[[users]]\n{USER}max_rate = nan", r"users\[0\].max_rate must be a number"),
        (f"[[users]]\n{USER}permissions = 1", r"users\[0\].permissions must be a table"),
        (f"[[users]]\n{USER}permissions.publsh = 1", r"users\[0\].permissions has the unknown key publsh"),
        (f"[[users]]\n{USER}permissions.publish = 1", r"users\[0\].permissions.publish must be a string or a list"),
        (f"[[users]]\n{USER}permissions.publish = {{alow = 1}}", r"permissions.publish has the unknown key alow"),
        (f"[[users]]\n{USER}permissions.publish = 'a..b'", r"permissions.publish has 'a..b', which is no subject"),
        (f"[[users]]\n{USER}permissions.publish = 'a b'", r"permissions.publish has 'a b', which is no subject"),
        (f"[[users]]\n{USER}permissions.subscribe = 'a b c'", r"has 'a b c', which is no subject and no subject with"),
        (f"[[users]]\n{USER}permissions.subscribe.deny = 'a '", r"permissions.subscribe.deny has 'a '"),
        (f"[[users]]\n{USER}permissions.mailboxes = 'read'", r"has 'read'; it may have create, send, receive, delete"),
        (f"[[users]]\n{USER}permissions.allow_responses = 1", r"allow_responses must be true, false or a table"),
        (f"[[users]]\n{USER}permissions.allow_responses.max = -1", r"allow_responses.max must be a whole number"),
        ('[[users]]\nnkey = "UABC"', "'UABC' is not the public key of a user"),
        (f'[[users]]\nnkey = "{NKEY[:-1]}A"', "is not the public key of a user"),
        ('[[users]]\nname = "a"\npassword = "$2a$99$secret-word"', "begins like a bcrypt hash and is none"),
        (f'[[users]]\nname = "a"\npassword = "$2a$15${"a" * 53}"', "has the bcrypt cost 15; it must be from 4 to 14"),
        ('token = "secret-word"\nuser = "a"\npassword = "secret-word"', "token and user cannot be given together"),
        (f'token = "secret-word"\n[[users]]\n{USER}', "token and users cannot be given together"),
        ('user = "a"', "user and password go together"),
        ('password = "secret-word"', "user and password go together"),
        (f'no_auth_user = "nobody"\n[[users]]\n{USER}', "no_auth_user is nobody, and there is no such user"),
        ('default_permissions = "all"', "default_permissions must be a table"),
        ("default_permissions.x = 1", "default_permissions has the unknown key x"),
    ],
)
def test_what_cannot_be_used_is_named_and_no_secret_is(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        Users(of_file(tmp_path, text), Owner)
    assert "secret-word" not in str(caught.value)


def test_limits_of_owners_follow_the_configuration() -> None:
    owners: dict[bytes, Owner] = {}

    def owner_of(name: bytes) -> Owner:
        return owners.setdefault(name, Owner(name))

    first = Users(Config(users=(UserConfig("anna", password="a", max_mailboxes=3, max_stored=9),)), owner_of)
    first.limit_owners(owners)
    assert (owners[b"anna"].mailboxes_max, owners[b"anna"].bytes_max) == (3, 9)
    Users(Config(), owner_of, first).limit_owners(owners)
    assert (owners[b"anna"].mailboxes_max, owners[b"anna"].bytes_max) == (0, 0)


def test_a_user_who_is_the_same_is_taken_over() -> None:
    ben = UserConfig("ben", password="b")
    anna = UserConfig("anna", password="a")
    first = users(users=(anna, ben))
    was = first.identify(password("anna", "a"), "", None)
    assert isinstance(was, User)
    same = Users(Config(users=(ben, anna)), Owner, first)
    assert same.identify(password("anna", "a"), "", None) is was
    limited = Users(Config(users=(UserConfig("anna", password="a", max_connections=1),)), Owner, same)
    now = limited.successor(was)
    assert now is not None
    assert now is not was
    assert now.connections_max == 1
    assert Users(Config(users=(UserConfig("anna", password="new"),)), Owner, first).successor(was) is None
    assert Users(Config(users=(ben,)), Owner, first).successor(was) is None
