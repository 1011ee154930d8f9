"""The compiled code. In a source tree without it, that of an installed csoftmax is found."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
