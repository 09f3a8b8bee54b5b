# SPDX-License-Identifier: MIT
"""An RSA key whose private half is not in this process: it can sign, and can do nothing else."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from vbuskit.base.errors import Refused


class OutsideKey(rsa.RSAPrivateKey):
    """What `cryptography` takes for a private key, so that one writer makes every PKCS#7 signature.

    RSA PKCS#1 v1.5 over SHA-256 only, which is all that a module's signature is made of.
    """

    def __init__(self, public: rsa.RSAPublicKey) -> None:
        self._public = public

    @abstractmethod
    def value_of(self, content: bytes) -> bytes:
        """The RSA value over `content`, as many bytes as the key is long."""

    @abstractmethod
    def source_of(self, content: bytes) -> str:
        """Where that value comes from, for who reads that it is wrong."""

    def sign(self, data: bytes, padding: AsymmetricPadding, algorithm: Any) -> bytes:
        """Nothing that comes from outside is used before it was checked."""
        value = self.value_of(data)
        try:
            self._public.verify(value, data, padding, algorithm)
        except InvalidSignature:
            source = self.source_of(data)
            raise Refused(f"{source}: is no signature of this content by the certificate's key") from None
        return value

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> NoReturn:
        raise TypeError("this key signs only")

    def private_numbers(self) -> NoReturn:
        raise TypeError("this key is not in this process")

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> NoReturn:
        raise TypeError("this key is not in this process")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
