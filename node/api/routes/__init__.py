"""The operations of the native interface, by what they are about."""
