class Baseline:
    @classmethod
    def take(cls, ours=()):
        return cls()


def audit(before):
    return []


def summary(f):
    return ""
