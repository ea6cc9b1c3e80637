"""A token endpoint that takes the assertions of one service account, as PyJWT and google-auth verify them."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import google.auth.jwt
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

EMAIL = "robot@proof.iam.gserviceaccount.com"


def key():
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode(), public


def file(pem):
    return {
        "type": "service_account",
        "private_key_id": "k-1",
        "private_key": pem,
        "client_email": EMAIL,
        "token_uri": "https://elsewhere.example/token",
    }


PEM, PUBLIC = key()
OTHER, _ = key()


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer(200, {"good": json.dumps(file(PEM)), "forged": json.dumps(file(OTHER))})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        audience = f"http://{self.headers['host']}{urlparse(self.path).path}"
        try:
            if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
                raise ValueError("another grant type")
            assertion = form["assertion"]
            required = {"require": ["iss", "aud", "iat", "exp"]}
            claims = jwt.decode(
                assertion, PUBLIC, algorithms=["RS256"], audience=audience, issuer=EMAIL, options=required
            )
            again = google.auth.jwt.decode(assertion, certs=PUBLIC, audience=audience)
            if dict(again) != claims or claims["exp"] - claims["iat"] > 3600 or claims["scope"] != "a b":
                raise ValueError("other claims")
            if jwt.get_unverified_header(assertion) != {"alg": "RS256", "typ": "JWT", "kid": "k-1"}:
                raise ValueError("another header")
        except Exception as refused:
            said = f"{type(refused).__name__}: {refused}"
            return self.answer(400, {"error": "invalid_grant", "error_description": said})
        return self.answer(200, {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 3599})


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
print("ready", server.server_address[1], flush=True)
server.serve_forever()
