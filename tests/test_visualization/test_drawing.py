"""Painting keeps the user's picture and marks what it should."""

import numpy as np

from mmsharp.visualization import Detection, data_uri, paint_boxes, paint_label


def test_the_given_picture_is_not_changed():
    """Painted is a copy of about 240 pixels on its short side."""
    picture = np.full((60, 90, 3), 128, np.uint8)
    painted = paint_boxes(picture, [Detection((10, 10, 40, 40), 'cat', 0.5)])
    assert (picture == 128).all()
    assert painted.shape == (240, 360, 3)
    assert (painted != 128).any()


def test_boxes_are_scaled_with_the_picture():
    """The lower right corner of a box is where the picture's enlargement puts it."""
    painted = paint_boxes(np.zeros((60, 90, 3), np.uint8), [Detection((10, 10, 40, 40), 'cat', 0.5)])
    assert painted[160, 100].any()
    assert painted[100, 160].any()
    assert not painted[200:].any()


def test_boxes_outside_of_the_picture_are_no_error():
    """Detectors predict such boxes."""
    far = [Detection((-50, -50, 500, 500), 'a' * 200, 0.5), Detection((-1e30, 0, 1e30, 1e30), 'a', 0.6)]
    endless = [Detection((0, 0, float('inf'), 1), 'a', 0.5), Detection((0, float('nan'), 1, 1), 'a', 0.5)]
    assert paint_boxes(np.zeros((60, 90, 3), np.uint8), far).shape == (240, 360, 3)
    assert not paint_boxes(np.zeros((60, 90, 3), np.uint8), endless).any()


def test_frames_say_right_and_wrong_and_nothing_without_truth():
    """Green, red, none."""
    picture = np.zeros((48, 48, 3), np.uint8)
    assert paint_label(picture, right=True)[0, 0, 1] > 100
    assert paint_label(picture, right=False)[0, 0, 0] > 100
    assert not paint_label(picture, right=None).any()


def test_data_uri_decodes_to_the_picture():
    """RGB stays RGB."""
    import base64

    import cv2

    picture = np.zeros((16, 16, 3), np.uint8)
    picture[..., 0] = 255
    encoded = np.frombuffer(base64.b64decode(data_uri(picture).split(',')[1]), np.uint8)
    assert cv2.imdecode(encoded, cv2.IMREAD_COLOR)[8, 8].tolist()[2] > 240
