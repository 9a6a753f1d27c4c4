# published_folder.py
import copy
from types import SimpleNamespace as Values

import torch
from modelRN50 import ResNet50
from update import LocalUpdate
from utils import get_dataset, weighted_average_weights

args = Values(iid=0, num_users=20, local_ep=1, local_bs=10, lr=0.001, momentum=0.9, wd=5e-4, optimizer="adam",
              loss="CrossEntropyLoss", norm="group_norm", gpu=None)  # fmt: skip


def make_job(seed=0):
    torch.manual_seed(seed)
    train_set, test_set, groups = get_dataset(args, unbalanced=True)
    model = ResNet50(args.norm)
    first = copy.deepcopy(model.state_dict())

    def of(client, state):
        model.load_state_dict(state)
        return LocalUpdate(args=args, dataset=train_set, idxs=groups[client], logger=None)

    def fit(client, received, round):
        state, _ = of(client, received).update_weights(model=copy.deepcopy(model), global_round=round)
        return copy.deepcopy(state), len(groups[client])

    def aggregate(current, uploads, round):
        sizes = {place: range(int(examples)) for place, (_, examples) in enumerate(uploads)}
        return weighted_average_weights([state for state, _ in uploads], sizes, list(sizes))

    return Values(
        clients=args.num_users, cohort=4, rounds=12, classes=4, declared={"metric": "test accuracy"},
        init=lambda: copy.deepcopy(first), sample=lambda round: torch.randperm(args.num_users)[:4].tolist(),
        fit=fit, aggregate=aggregate, model=lambda: ResNet50(args.norm), test_data=lambda: test_set,
        train_data=lambda client: of(client, first).trainloader,
        evaluate=lambda state, round: {"test acc": of(args.num_users - 1, state).inference(model=model)[0]},
    )  # fmt: skip
