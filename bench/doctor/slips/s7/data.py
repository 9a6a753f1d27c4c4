from base import iid, mnist


class FederatedMNIST:
    def __init__(self, seed=0):
        x, y, xt, yt = mnist()
        self.x, self.y = self.prepare(x), y
        self.x_test, self.y_test = self.prepare(xt), yt
        self.index = iid(self.y, 20, seed)

    @staticmethod
    def prepare(images):
        return (images.float().flatten(1) / 255.0 - 0.13) / 0.31

    def __getitem__(self, cid):
        rows = self.index[cid]
        return self.x[rows], self.y[rows]

    def test(self):
        return self.x_test, self.y_test
