"""Multipart bodies as different HTTP clients spell them."""


def field(name: str, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + raw


def file(
    name: str,
    content: bytes,
    *,
    filename: str = "a.txt",
    content_type: str = "text/plain",
) -> bytes:
    head = (
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    return head.encode() + content


def body(*parts: bytes, boundary: str = "x") -> bytes:
    mark = f"--{boundary}".encode()
    return (
        b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    )


def content_type(boundary: str = "x") -> str:
    return f"multipart/form-data; boundary={boundary}"
