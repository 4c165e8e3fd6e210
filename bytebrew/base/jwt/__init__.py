"""JSON Web Tokens: signed with Ed25519, and verified with the Ed25519, RSA and P-256 keys of issuers."""

from bytebrew.base.jwt.keys import PublicKeys as PublicKeys
from bytebrew.base.jwt.keys import read_public_keys as read_public_keys
from bytebrew.base.jwt.keys import thumbprint as thumbprint
from bytebrew.base.jwt.tokens import MAX_LENGTH as MAX_LENGTH
from bytebrew.base.jwt.tokens import BadToken as BadToken
from bytebrew.base.jwt.tokens import SigningKey as SigningKey
from bytebrew.base.jwt.tokens import UnknownKey as UnknownKey
from bytebrew.base.jwt.tokens import sign as sign
from bytebrew.base.jwt.tokens import verify as verify
